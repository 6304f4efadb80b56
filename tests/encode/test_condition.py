import pytest
import torch
from wan_local.wan.encode.condition import (
    SIZE_MODES,
    EndFrame,
    area_advice,
    condition_on_image,
    frame_mask,
    needs_end_latent,
    video_size,
)
from wan_local.wan.encode.image import encode_images, squash
from wan_local.wan.encode.latents import encode_chunks
from wan_local.wan.encode.mask import pack_mask
from wan_local.wan.errors import GeometryError, InputError, MissingFileError
from wan_local.wan.media.picture import cover_picture, read_picture, resize_picture
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent


def picture(height=40, width=70, seed=0):
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def fitted(given):
    return resize_picture(cover_picture(given, 64, 48), 64, 48)


def flags(frames, *known):
    mask = torch.zeros(frames)
    mask[list(known)] = 1
    return mask


def test_a21_mask_of_a_first_frame():
    assert pack_mask(flags(9, 0)).tolist() == [[1, 0, 0]] * 4
    long = pack_mask(flags(81, 0))
    assert long.shape == (4, 21) and long.sum() == 4


def test_a21_mask_of_a_first_and_a_last_frame():
    packed = pack_mask(flags(9, 0, 8)).tolist()
    assert packed == [[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert pack_mask(flags(81, 0, 80)).sum() == 5


def test_a21_mask_of_an_end_frame_with_a_latent_of_its_own():
    assert frame_mask(9, True, True).tolist() == [[1, 0, 0, 1]] * 4
    assert frame_mask(9, True, False).tolist() == [[1, 0, 0]] * 3 + [[1, 0, 1]]
    assert frame_mask(9, False, False).tolist() == [[1, 0, 0]] * 4
    long = frame_mask(81, True, True)
    assert long.shape == (4, 22) and long.sum() == 8


def test_a22_conditioning_has_four_mask_and_sixteen_latent_channels(i2v):
    condition = condition_on_image(i2v, picture(), 64, 48, 9, Silent())
    assert condition.latents.shape == (1, 16, 3, 6, 8)
    assert condition.mask.shape == (1, 4, 3, 6, 8)
    assert condition.mask.sum() == 4 * 6 * 8 and bool((condition.mask[:, :, 0] == 1).all())
    noise_mask_latents = 16 + condition.mask.shape[1] + condition.latents.shape[1]
    assert noise_mask_latents == i2v.config["in_channels"] == 36


def test_a22_frames_after_the_first_are_mid_grey(i2v):
    condition = condition_on_image(i2v, picture(), 64, 48, 9, Silent())
    video = torch.zeros(1, 3, 9, 48, 64)
    video[:, :, 0] = fitted(picture())
    with i2v.vae.on_device() as vae, torch.no_grad():
        mode = vae.encode(video).latent_dist.mode()
        mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
        std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    # The stock class encodes the same chunks in the same order; only rounding may differ.
    assert torch.allclose(condition.latents, (mode - mean) / std, atol=1e-5)


def test_encoding_twice_is_bit_identical(i2v):
    first = condition_on_image(i2v, picture(), 64, 48, 9, Silent())
    again = condition_on_image(i2v, picture(), 64, 48, 9, Silent())
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.image_embeds, again.image_embeds)


def test_image_features_are_those_of_the_last_but_one_layer(i2v):
    features = encode_images(i2v, [picture()], Silent())
    with i2v.image_encoder.on_device() as encoder, torch.no_grad():
        side = encoder.config.image_size
        hidden = encoder(squash(picture(), side), output_hidden_states=True).hidden_states
    assert torch.equal(features, hidden[-2])


def test_squash_of_a_constant_picture_is_the_normalised_constant():
    pixels = squash(torch.full((30, 90, 3), 0.25), 14)
    expected = (0.25 - torch.tensor([0.48145466, 0.4578275, 0.40821073])) / torch.tensor(
        [0.26862954, 0.26130258, 0.27577711]
    )
    assert pixels.shape == (1, 3, 14, 14)
    assert torch.allclose(pixels[0, :, 3, 5], expected, atol=1e-5)


def test_squash_keeps_the_whole_picture():
    wide = torch.zeros(20, 100, 3)
    wide[:, 90:] = 1  # a centre crop would lose this end
    assert squash(wide, 14)[0, :, 7, -1].min() > 1


def test_weights_for_two_images_get_two(flf2v):
    assert condition_on_image(flf2v, picture(), 32, 32, 5, Silent()).image_embeds.shape[0] == 2


def test_animate_weights_are_refused(animate):
    with pytest.raises(InputError, match="character animation"):
        condition_on_image(animate, picture(), 32, 32, 5, Silent())


@pytest.mark.parametrize(("size", "frames"), [((60, 48), 9), ((64, 48), 8)])
def test_wrong_geometry_is_refused_before_encoding(i2v, size, frames):
    with pytest.raises(GeometryError):
        condition_on_image(i2v, picture(), *size, frames, Silent())


def test_a_cancelled_encoding_leaves_nothing_behind(i2v):
    class Cancels(Silent):
        def check_cancelled(self):
            raise KeyboardInterrupt

    chunks = [torch.zeros(1, 3, 1, 32, 32), torch.zeros(1, 3, 4, 32, 32)]
    with i2v.vae.on_device() as vae:
        before = encode_chunks(vae, chunks, Silent())
        with pytest.raises(KeyboardInterrupt):
            encode_chunks(vae, chunks, Cancels())
        assert torch.equal(encode_chunks(vae, chunks, Silent()), before)


def test_inputs_are_not_changed(i2v):
    given = picture()
    condition_on_image(i2v, given, 64, 48, 5, Silent())
    assert torch.equal(given, picture())


def test_video_size_keeps_the_aspect_of_the_picture():
    assert video_size(torch.zeros(832, 480, 3), 832, 480) == (480, 832)


def test_resize_is_pillows_lanczos():
    import numpy as np
    from PIL import Image

    given = picture()
    pixels = Image.fromarray((given.numpy() * 255).round().astype(np.uint8))
    expected = np.asarray(pixels.resize((32, 16), Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    ours = resize_picture(given, 32, 16)
    assert ((ours + 1) * 127.5).round().to(torch.uint8).numpy().tolist() == expected.tolist()


def test_read_picture_turns_upright_and_drops_transparency(tmp_path):
    from PIL import Image

    path = tmp_path / "a picture.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    Image.new("RGBA", (20, 10), (255, 0, 0, 0)).save(path, exif=exif)
    pixels = read_picture(path)
    assert pixels.shape == (20, 10, 3) and pixels[0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n half"])
def test_an_unreadable_image_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.png"):
        read_picture(path, "input_image")


def test_a_truncated_image_is_named(tmp_path):
    from PIL import Image

    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match=r"half\.png"):
        read_picture(path)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.png"):
        read_picture(tmp_path / "none.png", "input_image")


def test_variants_are_three():
    assert {v.name for v in Variant} == {"I2V", "FLF2V", "ANIMATE"}


def stock_latents(vae, video):
    mode = vae.encode(video).latent_dist.mode()
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return (mode - mean) / std


def end(choice="auto", seed=5):
    return EndFrame(picture(seed=seed), choice)


def test_a23_an_extra_latent_holds_the_end_frame_encoded_alone(i2v):
    condition = condition_on_image(i2v, picture(), 64, 48, 9, Silent(), end("on"))
    assert condition.has_end_latent and condition.latents.shape[2] == condition.mask.shape[2] == 4
    assert condition.shape.frames == 4 and condition.num_frames == 9
    alone = condition_on_image(i2v, picture(seed=5), 64, 48, 1, Silent())
    assert torch.equal(condition.latents[:, :, 3:], alone.latents)
    without = condition_on_image(i2v, picture(), 64, 48, 9, Silent())
    assert torch.equal(condition.latents[:, :, :3], without.latents)


def test_a22_an_end_frame_without_it_is_the_last_frame(i2v):
    condition = condition_on_image(i2v, picture(), 64, 48, 9, Silent(), end("off"))
    video = torch.zeros(1, 3, 9, 48, 64)
    video[:, :, 0] = fitted(picture())
    video[:, :, 8] = fitted(picture(seed=5))
    with i2v.vae.on_device() as vae, torch.no_grad():
        expected = stock_latents(vae, video)
    assert torch.allclose(condition.latents, expected, atol=1e-5)
    assert not condition.has_end_latent and condition.mask[0, :, 2, 0, 0].tolist() == [0, 0, 0, 1]


def test_where_the_end_frame_goes_is_decided_by_the_weights(i2v, flf2v):
    from dataclasses import replace

    assert needs_end_latent(i2v, "auto") and not needs_end_latent(flf2v, "auto")
    inpainting = replace(i2v, name="wan2.1_fun_inp_1.3B_bf16.safetensors")
    assert not needs_end_latent(inpainting, "auto")
    assert needs_end_latent(flf2v, "on") and not needs_end_latent(i2v, "off")
    with pytest.raises(InputError, match="sometimes"):
        needs_end_latent(i2v, "sometimes")


def test_flf2v_weights_see_both_images_and_i2v_weights_the_first(i2v, flf2v):
    both = condition_on_image(flf2v, picture(), 64, 48, 9, Silent(), end()).image_embeds
    first = condition_on_image(flf2v, picture(), 64, 48, 9, Silent()).image_embeds
    assert both.shape == first.shape and torch.equal(both[0], first[0])
    assert torch.equal(first[0], first[1]) and not torch.equal(both[0], both[1])
    assert condition_on_image(i2v, picture(), 64, 48, 9, Silent(), end()).image_embeds.shape[0] == 1


def test_flf2v_weights_without_an_end_frame_warn(flf2v):
    notes = []

    class Listens(Silent):
        def note(self, text):
            notes.append(text)

    condition_on_image(flf2v, picture(), 64, 48, 9, Listens())
    assert any("trained with an end frame" in note for note in notes)


@pytest.mark.parametrize("frames", [5, 9, 13, 33])
def test_flf2v_conditioning_works_at_any_length(flf2v, frames):
    condition = condition_on_image(flf2v, picture(), 32, 32, frames, Silent(), end())
    assert condition.mask[0, :, -1, 0, 0].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("frames", [1])
def test_an_end_frame_needs_five_frames(i2v, frames):
    with pytest.raises(InputError, match="5 frames"):
        condition_on_image(i2v, picture(), 64, 48, frames, Silent(), end())


def test_an_end_frame_of_another_shape_is_covered_and_cropped(i2v):
    tall = torch.zeros(200, 70, 3)
    tall[80:120] = 1  # what is left when the middle of it fills 64x48
    condition = condition_on_image(i2v, picture(), 64, 48, 9, Silent(), EndFrame(tall, "on"))
    middle = condition_on_image(i2v, tall[74:126], 64, 48, 1, Silent())
    assert torch.allclose(condition.latents[:, :, 3:], middle.latents, atol=0.2)


def test_cover_keeps_the_middle():
    wide = torch.arange(100.0).expand(40, 100)[..., None].expand(-1, -1, 3)
    covered = cover_picture(wide, 40, 40)
    assert covered.shape == (40, 40, 3) and covered[0, 0, 0] == 30
    assert cover_picture(wide, 96, 40) is wide  # only the floor to 16 separates them


def test_exact_size_is_taken_as_it_is():
    assert video_size(torch.zeros(400, 400, 3), 832, 480, SIZE_MODES[1]) == (832, 480)
    with pytest.raises(GeometryError, match="833"):
        video_size(torch.zeros(400, 400, 3), 833, 480, SIZE_MODES[1])
    with pytest.raises(InputError, match="stretch"):
        video_size(torch.zeros(400, 400, 3), 832, 480, "stretch")


def test_an_area_that_does_not_suit_the_weights_is_said(i2v, flf2v):
    from dataclasses import replace

    small = replace(i2v, name="wan2.1_i2v_480p_14B.safetensors")
    large = replace(i2v, name="Wan2.1-I2V-14B-720P")
    assert "832x480" in area_advice(small, 1280, 720)
    assert "1280x720" in area_advice(large, 832, 480) and area_advice(flf2v, 832, 480)
    assert area_advice(small, 832, 480) is None and area_advice(large, 1280, 720) is None
    assert area_advice(i2v, 64, 64) is None  # a name that says nothing
