"""One clip of an animation, against the stock transformer and a straightforward loop."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from wan_local.wan.clips import plan_clips
from wan_local.wan.encode.animate import condition_animation, encode_clip
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import GeometryError, InputError, ModelError
from wan_local.wan.progress import Silent
from wan_local.wan.sample.clip import clip_shape, sample_clip
from wan_local.wan.sample.face import attend_to_face, embed_face, encode_motion, encode_no_motion
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.schedule import Solver
from wan_local.wan.sample.settings import SampleOptions, SampleSettings
from wan_local.wan.seeds import draw_noise, make_generator

SETTINGS = SampleSettings(steps=3, guidance=Guidance(1.0, cfg_star=False), solver="dpm++")
GUIDED = replace(SETTINGS, guidance=Guidance(3.0, cfg_star=False))


def frames(count, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def text(animate):
    return encode_prompts(animate, "somebody waves", "", Silent())


@pytest.fixture(scope="module")
def clip(animate):
    poses, faces = frames(9, (48, 64), 0), frames(9, (64, 64), 1)
    reference = frames(1, (50, 70), 2)[0]
    condition = condition_animation(animate, reference, poses, faces, 64, 48, Silent())
    return encode_clip(animate, condition, plan_clips(9, 9, 1)[0], None, Silent())


def noise_for(clip):
    return draw_noise(clip_shape(clip), make_generator(5))


def stock(transformer, latents, timestep, text, clip, faces):
    """The module's own forward, which does everything anew."""
    hidden = torch.cat([latents, clip.known], dim=1)
    pixels = faces.permute(1, 0, 2, 3)[None]  # T c H W -> 1 c T H W
    return transformer(
        hidden,
        timestep[None],
        text,
        clip.image_embeds,
        pose_hidden_states=clip.pose,
        face_pixel_values=pixels,
        return_dict=False,
    )[0]


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_loop_equals_a_straightforward_one_over_the_stock_model(
    animate, text, clip, solver, scale
):
    guidance = Guidance(scale, cfg_star=False)
    settings = replace(SETTINGS, solver=solver, guidance=guidance)
    ours = sample_clip(animate, text, clip, settings, noise_for(clip), Silent()).latents
    latents, steps = noise_for(clip), Solver(solver, 3, 5.0)
    unseen = torch.full_like(clip.faces, -1)
    with animate.transformer.on_device() as transformer, torch.no_grad():
        for index, t in enumerate(steps.timesteps):
            velocity = stock(transformer, latents, t, text.positive, clip, clip.faces)
            if scale > 1:
                without = stock(transformer, latents, t, text.negative, clip, unseen)
                velocity = without + scale * (velocity - without)
            latents = steps.step(velocity, index, latents)
    assert ours.shape == (1, 16, 3, 6, 8)
    # Batches of another size may round differently in the motion encoder's convolutions.
    assert torch.allclose(ours, latents[:, :, 1:], atol=2e-5)


def test_an_adapter_does_what_its_own_forward_does(animate, clip):
    generator = torch.Generator().manual_seed(3)
    with animate.transformer.on_device() as transformer, torch.no_grad():
        motion = encode_motion(transformer, clip.faces, lambda: None)
        tokens = transformer.face_encoder(motion[None])
        tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], dim=1)
        hidden = torch.randn(1, 4 * 12, 48, generator=generator)
        for adapter, face in zip(
            transformer.face_adapter, embed_face(transformer, motion), strict=True
        ):
            assert torch.equal(attend_to_face(adapter, hidden, face), adapter(hidden, tokens))


def test_a25_without_a_face_is_black_in_every_frame(animate, clip):
    with animate.transformer.on_device() as transformer, torch.no_grad():
        black = encode_motion(transformer, torch.full_like(clip.faces, -1), lambda: None)
        assert torch.allclose(encode_no_motion(transformer, 9), black, atol=1e-5)
        assert not torch.allclose(
            encode_motion(transformer, clip.faces, lambda: None), black, atol=1e-3
        )


def count_calls(transformer, names):
    """How often submodules run, by name; a name stands for all modules below that have it."""
    counts, handles = Counter(), []
    for name, module in transformer.named_modules():
        if name in names:
            handles.append(
                module.register_forward_pre_hook(
                    lambda m, args, name=name: counts.update({name: len(args[0])})
                )
            )
    return counts, handles


ONCE = (
    "face_encoder",
    "pose_patch_embedding",
    "condition_embedder.text_embedder",
    "condition_embedder.image_embedder",
    "face_adapter.0.to_k",
    "face_adapter.0.to_v",
)


LAYER = "blocks.0.ffn.net.2"  # of whatever walks through the block


@pytest.mark.parametrize("steps", [3, 6])
def test_what_does_not_change_is_computed_once_a_clip(animate, text, clip, steps, forward):
    with animate.transformer.on_device() as transformer:
        counts, handles = count_calls(transformer, (*ONCE, "motion_encoder", LAYER))
    try:
        settings = replace(SETTINGS, steps=steps)
        sample_clip(animate, text, clip, settings, noise_for(clip), Silent())
    finally:
        for handle in handles:
            handle.remove()
    assert counts["motion_encoder"] == 9  # pictures, each once
    assert counts[LAYER] == steps
    latent_frames = {"face_adapter.0.to_k": 4, "face_adapter.0.to_v": 4}
    assert {name: counts[name] for name in ONCE} == dict.fromkeys(ONCE, 1) | latent_frames


def test_a25_scale_1_runs_one_forward_a_step_and_above_1_two(animate, text, clip):
    forwards = [
        sample_clip(animate, text, clip, s, noise_for(clip), Silent()).report.forwards
        for s in (SETTINGS, GUIDED)
    ]
    assert forwards == [3, 6]
    without = replace(text, negative=None)
    sample_clip(animate, without, clip, SETTINGS, noise_for(clip), Silent())
    with pytest.raises(InputError, match="negative"):
        sample_clip(animate, without, clip, GUIDED, noise_for(clip), Silent())


def test_joint_pass_gives_the_same_latents(animate, text, clip):
    joint = replace(GUIDED, options=SampleOptions(joint_pass=True))
    apart = [
        sample_clip(animate, text, clip, s, noise_for(clip), Silent()).latents
        for s in (GUIDED, joint)
    ]
    assert torch.equal(*apart)


@pytest.mark.parametrize("name", ["known", "pose", "faces", "image_embeds"])
def test_every_condition_changes_the_result(animate, text, clip, name):
    plain = sample_clip(animate, text, clip, SETTINGS, noise_for(clip), Silent()).latents
    given = getattr(clip, name)
    # The picture's tokens are weak in the miniature: turned round they show.
    changed = replace(clip, **{name: -given if name != "known" else given.flip(-1)})
    other = sample_clip(animate, text, changed, SETTINGS, noise_for(clip), Silent()).latents
    assert (plain - other).abs().max() > 1e-4, name


@pytest.mark.parametrize("length", [226, 513])
def test_a31_a_text_of_another_length_is_refused(animate, text, clip, length):
    other = replace(text, positive=torch.zeros(1, length, 32))
    with pytest.raises(GeometryError, match=f"{length} tokens"):
        sample_clip(animate, other, clip, SETTINGS, noise_for(clip), Silent())


def test_weights_for_something_else_are_refused(i2v, text, clip):
    with pytest.raises(ModelError, match="image to video"):
        sample_clip(i2v, text, clip, SETTINGS, noise_for(clip), Silent())


def test_cancel_stops_before_the_next_block_or_batch_of_faces(animate, text, clip):
    class Cancels(Silent):
        checks = 0

        def check_cancelled(self):
            self.checks += 1
            if self.checks == 3:
                raise KeyboardInterrupt

    reporter = Cancels()
    with pytest.raises(KeyboardInterrupt):
        sample_clip(animate, text, clip, SETTINGS, noise_for(clip), reporter)
    assert reporter.checks == 3
