"""Conditioning of animation and replacement, against the numbers and the stock pipeline."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from wan_local.wan.clips import plan_clips
from wan_local.wan.encode.animate import ClipPixels, condition_animation, encode_clip
from wan_local.wan.encode.image import squash
from wan_local.wan.encode.mask import keep_around, pack_mask
from wan_local.wan.errors import GeometryError, ModelError
from wan_local.wan.media.resize import letterbox
from wan_local.wan.payloads import Mode, Scene
from wan_local.wan.progress import Silent

HEIGHT, WIDTH = 48, 64


def frames(count, size=(HEIGHT, WIDTH), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)


def person(count, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, HEIGHT, WIDTH, generator=generator) > 0.5).to(torch.uint8)


@pytest.fixture(scope="module")
def scene():
    return Scene(frames(17, seed=4), person(17))


@pytest.fixture(scope="module")
def stock(animate):
    """The stock pipeline's methods, over the same VAE."""
    from diffusers import WanAnimatePipeline

    with animate.vae.on_device() as vae:
        pipeline = SimpleNamespace(
            vae=vae,
            vae_scale_factor_temporal=4,
            vae_scale_factor_spatial=8,
        )
        for name in (
            "get_i2v_mask",
            "prepare_prev_segment_cond_latents",
            "prepare_reference_image_latents",
            "prepare_pose_latents",
        ):
            setattr(pipeline, name, getattr(WanAnimatePipeline, name).__get__(pipeline))
        yield pipeline


def condition(animate, scene=None, count=17, **changes):
    given = {
        "reference": frames(1, (50, 70), 5)[0],
        "poses": frames(count, seed=1),
        "faces": frames(count, (64, 64), 2),
        "width": WIDTH,
        "height": HEIGHT,
        "reporter": Silent(),
        "scene": scene,
    }
    return condition_animation(animate, **{**given, **changes})


def signed(video):
    """[T, H, W, 3] uint8 as [1, 3, T, H, W] in -1..1."""
    return (video.float() / 127.5 - 1).permute(3, 0, 1, 2)[None]


# Masks


def packed(person_rows, carried):
    """Rows of the packed mask per latent frame, of a mask that is one pixel large."""
    known = 1 - torch.tensor(person_rows, dtype=torch.float32)
    known[:carried] = 1
    return pack_mask(known).T.int().tolist()


def test_a19_mask_packing():
    rows = [1, 1, 0, 1, 0, 1, 1, 0, 0]
    assert packed(rows, 0) == [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 1]]
    assert packed(rows, 1) == [[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1]]
    assert packed(rows, 5) == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]
    nothing = [1] * 9
    assert packed(nothing, 1) == [[1] * 4, [0] * 4, [0] * 4]
    assert packed(nothing, 5) == [[1] * 4, [1] * 4, [0] * 4]


def test_a20_the_upper_left_pixel_decides():
    ramp = torch.arange(16 * 24).view(1, 16, 24)
    taken = 1 - keep_around(ramp)
    assert taken.int().tolist() == [[[0, 8, 16], [192, 200, 208]]]


@pytest.mark.parametrize("carry", [1, 5])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("number", [0, 1])
def test_a19_known_frames_equal_the_stock_pipelines(animate, stock, scene, mode, number, carry):
    """Mask and latents of first and later clips, in both modes."""
    of_mode = scene if mode is Mode.REPLACEMENT else None
    given = condition(animate, of_mode)
    assert given.mode is mode
    clip = plan_clips(17, 9, carry)[number]
    carried = torch.rand(carry, HEIGHT, WIDTH, 3) * 2 - 1 if number else None
    ours = encode_clip(animate, given, clip, carried, Silent())
    sources = list(clip.sources)
    with torch.no_grad():
        expected = stock.prepare_prev_segment_cond_latents(
            prev_segment_cond_video=None if carried is None else carried.permute(3, 0, 1, 2)[None],
            background_video=signed(scene.background[sources]),
            mask_video=scene.mask[sources][None, None].float(),
            segment_frame_length=9,
            start_frame=number * (9 - carry),
            height=HEIGHT,
            width=WIDTH,
            prev_segment_cond_frames=carry,
            task="replace" if of_mode else "animate",
            dtype=torch.float32,
            device="cpu",
        )
        reference = stock.prepare_reference_image_latents(
            signed(given.reference[None])[:, :, 0], dtype=torch.float32, device="cpu"
        )
        pose = stock.prepare_pose_latents(
            signed(given.poses[sources]), dtype=torch.float32, device="cpu"
        )
    whole = torch.cat([reference, expected], dim=2)
    assert torch.equal(ours.known[:, :4], whole[:, :4])
    # The stock class divides by multiplying with the inverse, and clips may round otherwise.
    assert torch.allclose(ours.known, whole, atol=1e-5)
    assert torch.allclose(ours.pose, pose, atol=1e-5)
    assert ours.faces.shape == (9, 3, 64, 64) and ours.faces.min() >= -1 and ours.faces.max() <= 1


def test_a21_shapes_of_a_long_clip():
    from wan_local.wan.geometry import latent_shape

    shape = latent_shape(1280, 720, 77)
    assert (shape.frames, shape.height, shape.width) == (20, 90, 160)
    known = pack_mask(torch.zeros(77, 90, 160))
    assert known.shape == (4, 20, 90, 160)


def test_a21_the_reference_is_known_and_frames_follow_it(animate):
    clip = plan_clips(9, 9, 1)[0]
    ours = encode_clip(animate, condition(animate, count=9), clip, None, Silent())
    assert ours.known.shape == (1, 20, 4, 6, 8) and ours.pose.shape == (1, 16, 3, 6, 8)
    assert (ours.known[:, :4, 0] == 1).all() and (ours.known[:, :4, 1:] == 0).all()


def test_a29_the_scene_outside_of_the_mask_is_the_frame_itself():
    from wan_local.wan.preprocess.mask.shape import background_video

    video, mask = frames(3), person(3)
    cut = background_video(video, mask)
    for number in range(3):
        inside = mask[number].bool().numpy()
        assert (cut[number][inside] == 0).all()
        assert (cut[number][~inside] == video[number].numpy()[~inside]).all()
    pixels = ClipPixels(torch.from_numpy(np.stack([cut[0]])))[0]
    assert (pixels[0, :, 0, mask[0].bool()] == -1).all()


def test_a29_pixels_far_from_the_mask_do_not_change_what_is_encoded(animate):
    """What the mask covers is a hole, whatever the person in it looked like."""
    from wan_local.wan.preprocess.mask.shape import background_video

    mask = torch.zeros(9, HEIGHT, WIDTH, dtype=torch.uint8)
    mask[:, 16:40, 16:40] = 1
    video, other = frames(9, seed=7), frames(9, seed=7)
    other[:, 20:30, 20:30] = 255
    clip = plan_clips(9, 9, 1)[0]
    known = []
    for given in (video, other):
        with_scene = condition(animate, Scene(background_video(given, mask), mask), 9)
        known.append(encode_clip(animate, with_scene, clip, None, Silent()).known)
    assert torch.equal(*known)
    rows = known[0][0, 0, 1]
    assert rows[2:5, 2:5].eq(0).all() and rows.sum() == 6 * 8 - 9


# Pictures


def test_a28_the_image_encoder_sees_the_whole_letterboxed_picture():
    red = torch.zeros(200, 100, 3, dtype=torch.uint8)
    red[:, :50, 0] = 255
    boxed = letterbox(red, 64, 48)
    seen = squash(boxed.float() / 255, 224)
    assert seen.shape == (1, 3, 224, 224)
    colour = seen[0, 0, 112]
    lit = (colour > colour.mean()).nonzero().flatten()
    # 24 of 64 columns hold the picture, the left half of it red: columns 20 to 32 of 64.
    assert abs(int(lit[0]) - 20 * 3.5) <= 3 and abs(int(lit[-1]) - 32 * 3.5) <= 3
    from transformers import CLIPImageProcessor

    stock = CLIPImageProcessor()(red.numpy(), return_tensors="pt")["pixel_values"]
    assert (stock - seen).abs().max() > 1


def test_the_reference_is_letterboxed_from_the_original(animate):
    reference = torch.full((1500, 1000, 3), 200, dtype=torch.uint8)
    given = condition(animate, reference=reference)
    assert given.reference.shape == (HEIGHT, WIDTH, 3)
    assert (given.reference[:, 16:48] == 200).all() and (given.reference[:, :16] == 0).all()


def test_faces_come_in_the_size_of_the_models_encoder(animate):
    clip = plan_clips(1, 5, 1)[0]
    flat = torch.full((1, 512, 512, 3), 51, dtype=torch.uint8)
    given = condition(animate, count=1, faces=flat)
    faces = encode_clip(animate, given, clip, None, Silent()).faces
    assert faces.shape == (5, 3, 64, 64) and torch.allclose(faces, torch.tensor(-0.6))


def test_carried_frames_are_not_rounded(animate):
    """A difference far below one step of 255 reaches the encoder."""
    clip = plan_clips(17, 9, 1)[1]
    given = condition(animate)
    carried = torch.zeros(1, HEIGHT, WIDTH, 3)
    known = [
        encode_clip(animate, given, clip, frame, Silent()).known
        for frame in (carried, carried + 1e-3)
    ]
    assert not torch.equal(*known)


def test_pixels_are_made_chunk_by_chunk():
    made = ClipPixels(frames(9), torch.ones(5, HEIGHT, WIDTH, 3))
    assert [chunk.shape[2] for chunk in made] == [1, 4, 4]
    whole = torch.cat(list(made), dim=2)
    assert (whole[:, :, :5] == 1).all()
    assert torch.allclose(whole[:, :, 5:], signed(frames(9))[:, :, 5:])
    grey = ClipPixels(None, None, 9, (HEIGHT, WIDTH))
    assert len(grey) == 3 and all((chunk == 0).all() for chunk in grey)


# What does not fit


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"faces": frames(16, (64, 64))}, "pose video 17, face video 16"),
        ({"poses": frames(17, (HEIGHT, 32))}, "The pose video is 32x48"),
        ({"scene": Scene(frames(17), person(9))}, "mask 9"),
        ({"scene": Scene(frames(17, (32, WIDTH)), person(17))}, "The background is 64x32"),
        ({"scene": Scene(frames(17), person(17)[:, :, :32])}, "The mask is 32x48"),
        ({"width": 70, "poses": frames(17, (HEIGHT, 70))}, "would be 70x48"),
    ],
)
def test_what_does_not_fit_is_told_with_both_numbers(animate, changes, told):
    with pytest.raises(GeometryError, match=told):
        condition(animate, **changes)


def test_other_weights_are_refused_in_words(i2v):
    with pytest.raises(ModelError, match="image to video") as error:
        condition(i2v)
    assert "Animate" in error.value.fix
