"""For every parameter of wan2-1-i2v: changing it changes the video, and a wrong value is named."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from wan_local.wan.app import Surroundings, run_i2v
from wan_local.wan.errors import ValidationError, WanError
from wan_local.wan.params import I2V_APP, validate
from wan_local.wan.progress import Silent

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.png"
PLAIN = {
    "prompt": "a red ball rolls",
    "input_image": str(SAMPLE),
    "size": "64x48",
    "num_frames": 9,
    "num_inference_steps": 6,
    "seed": 3,
    "tea_cache": 0,
    "vae_tile_size": 0,
    "enable_RIFLEx": False,
    "joint_pass": False,
    "attention": "sdpa",
    "cfg_star_switch": False,
}
STAR = {"cfg_star_switch": True, "cfg_zero_step": -1}
SKIPPING = {"tea_cache": 2.0, "num_inference_steps": 20}
# From 57 latent frames on RIFLEx lowers the frequency that fits the miniatures.
LONG = {"num_frames": 225, "size": "32x32", "num_inference_steps": 2}

# What is changed, and beside what.
CHANGES = {
    "prompt": ({}, "an entirely different text"),
    "guidance_scale": ({}, 3.0),
    "num_inference_steps": ({}, 8),
    "seed": ({}, 4),
    "negative_prompt": ({}, "blurry"),
    "sample_solver": ({}, "dpm++"),
    "shift": ({}, 3.0),
    "tea_cache": ({**SKIPPING, "tea_cache": 0}, 2.0),
    "tea_cache_start_step_perc": (SKIPPING, 50),
    "enable_RIFLEx": (LONG, True),
    "cfg_star_switch": ({**STAR, "cfg_star_switch": False}, True),
    "cfg_zero_step": (STAR, 3),
}
WRONG = {
    "prompt": " ",
    "input_image": "no-such-picture.png",
    "end_frame": "no-such-picture.png",
    "size": "large",
    "num_frames": 0,
    "fps": 0,
    "guidance_scale": -1,
    "num_inference_steps": 0,
    "seed": -2,
    "negative_prompt": 5,
    "sample_solver": "euler",
    "shift": 0,
    "tea_cache": -1,
    "tea_cache_start_step_perc": 101,
    "lora_file": "no-such-lora.safetensors",
    "lora_multiplier": "strong",
    "vae_tile_size": 64,
    "enable_RIFLEx": "perhaps",
    "joint_pass": "perhaps",
    "attention": "flash",
    "cfg_star_switch": "perhaps",
    "cfg_zero_step": -2,
    "add_frames_for_end_image": "perhaps",
    "temporal_upsampling": "rife3",
    "spatial_upsampling": "lanczos4",
}


class Notes(Silent):
    def __init__(self):
        self.notes, self.phases = [], {}

    def start(self, phase, total):
        self.phases[phase] = total

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def run(i2v, tmp_path):
    """Runs the app; gives (frames [T,H,W,3], fps, notes, totals by phase)."""

    def call(model=i2v, **changes):
        reporter, out = Notes(), tmp_path / "out.mp4"
        run_i2v(validate(I2V_APP, {**PLAIN, **changes}), model, out, reporter, Surroundings())
        with av.open(str(out)) as video:
            frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
            rate = float(video.streams.video[0].average_rate)
        return np.stack(frames).astype(int), rate, reporter.notes, reporter.phases

    return call


@pytest.fixture
def other_picture(tmp_path):
    path = tmp_path / "other.png"
    Image.effect_noise((90, 70), 80).convert("RGB").save(path)
    return str(path)


@pytest.fixture
def lora(tmp_path, i2v):
    """A random LoRA on the query projections of the miniature."""
    import torch
    from safetensors.torch import save_file

    dim = i2v.config["num_attention_heads"] * i2v.config["attention_head_dim"]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for block in range(i2v.config["num_layers"]):
        name = f"diffusion_model.blocks.{block}.self_attn.v"
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, dim, generator=generator)
        tensors[f"{name}.lora_up.weight"] = torch.randn(dim, 4, generator=generator) * 0.1
    folder = tmp_path / "loras"
    folder.mkdir()
    save_file(tensors, folder / "style.safetensors")
    return folder / "style.safetensors"


def difference(first, second):
    return abs(first[0] - second[0]).mean()


def test_every_parameter_that_works_is_tested_here():
    named = set(CHANGES) | {
        "input_image",
        "end_frame",
        "size",
        "num_frames",
        "fps",
        "lora_file",
        "lora_multiplier",
        "vae_tile_size",
        "joint_pass",
        "attention",
        "add_frames_for_end_image",
        "temporal_upsampling",  # test_upsampling.py
        "spatial_upsampling",  # test_upsampling.py
    }
    working = {p.name for p in I2V_APP.params if p.works}
    assert named == working == set(WRONG)


@pytest.mark.parametrize("name", CHANGES)
def test_changing_it_changes_the_video(run, name):
    beside, value = CHANGES[name]
    base = {**PLAIN, **beside}
    assert base.get(name, I2V_APP[name].default) != value
    # A codec repeats itself: any difference comes from the frames.
    assert difference(run(**beside), run(**{**beside, name: value})) > 0.2


def test_input_image_changes_the_video(run, other_picture):
    first, second = run(), run(input_image=other_picture, size="64x48")
    assert first[0].shape != second[0].shape or difference(first, second) > 1


def test_end_frame_changes_the_video(run, other_picture):
    plain, ended = run(), run(end_frame=other_picture)
    assert plain[0].shape == ended[0].shape and difference(plain, ended) > 0.5


def test_lora_file_changes_the_video_and_says_how_much_was_applied(run, lora):
    changed = run(lora_file=str(lora))
    assert difference(run(), changed) > 0.2
    assert any("2 of 2" in note or "4 of 4" in note for note in changed[2])
    assert difference(run(), run()) == 0  # and leaves the model as it was


def test_lora_multiplier_changes_the_video_and_0_is_no_lora(run, lora):
    once, twice = run(lora_file=str(lora)), run(lora_file=str(lora), lora_multiplier=2)
    assert difference(once, twice) > 0.2
    assert difference(once, run(lora_file=str(lora), lora_multiplier=-1)) > 0.2
    assert difference(run(), run(lora_file=str(lora), lora_multiplier=0)) == 0


def test_size_changes_the_video(run):
    # 640x384: 64x48 has room for 64x32, 96x64 for 96x48.
    assert run()[0].shape[1:3] == (32, 64)
    assert run(size="96x64")[0].shape[1:3] == (48, 96)


def test_num_frames_changes_the_video_and_rounding_is_said(run):
    frames, _, notes, _ = run(num_frames=12)
    assert len(run()[0]) == 9 and len(frames) == 13
    assert any("num_frames 12 gives 13" in note for note in notes)


def test_fps_changes_the_file_and_not_the_frames(run):
    slow, fast = run(fps=8), run(fps=24)
    assert (slow[1], fast[1]) == (8, 24)
    # The codec spends its bits by time; other frames would be several times as far away.
    assert difference(slow, fast) < 0.25 * difference(slow, run(fps=8, seed=4))


def test_add_frames_for_end_image_changes_the_video(run, other_picture):
    extra = run(end_frame=other_picture, add_frames_for_end_image=True)
    inside = run(end_frame=other_picture, add_frames_for_end_image=False)
    assert difference(extra, inside) > 0.5


def test_joint_pass_does_not_change_the_video(run):
    assert difference(run(), run(joint_pass=True)) < 0.05


def test_attention_falls_back_and_says_so(run):
    sage = run(attention="sage")
    import torch

    if not torch.cuda.is_available():
        assert any("sage cannot be used" in note for note in sage[2])
        assert difference(run(), sage) == 0


def test_vae_tile_size_changes_memory_and_hardly_the_video(run):
    plain = run(size="256x160")
    tiled = run(size="256x160", vae_tile_size=128)
    assert plain[0].shape == tiled[0].shape
    one, six = plain[3], tiled[3]  # 256x144: three tiles by two, in both directions
    assert all(six[name] == 6 * one[name] for name in ("encode frames", "decode"))
    # With random weights a pixel depends on the whole picture; a trained VAE is nearer.
    assert 0 < difference(plain, tiled) < 30


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_named_before_anything_runs(i2v, tmp_path, name):
    class Refuses(Silent):
        def start(self, phase, total):
            raise AssertionError(f"{phase} began")

    values = {**PLAIN, name: WRONG[name]}
    # Files are named by themselves, everything else by its parameter.
    named = WRONG[name] if str(WRONG[name]).startswith("no-such") else name
    with pytest.raises((ValidationError, WanError), match=named) as error:
        run_i2v(validate(I2V_APP, values), i2v, tmp_path / "out.mp4", Refuses(), Surroundings())
    assert error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_an_end_frame_needs_room(i2v, tmp_path, other_picture):
    with pytest.raises(WanError, match="at least 5"):
        validate(I2V_APP, {**PLAIN, "end_frame": other_picture, "num_frames": 3})


def test_the_same_run_twice_is_the_same_video(run):
    assert difference(run(), run()) == 0


def test_everything_at_its_default_runs(run):
    """The app's own defaults together, on a small video."""
    given = {k: PLAIN[k] for k in ("prompt", "input_image", "size", "num_frames", "seed")}
    values = dict.fromkeys(PLAIN) | given
    _, _, notes, _ = run(**values)
    assert any("TeaCache x2: 15 of 30 steps" in note for note in notes)
    assert any("30 of 60 forwards run" in note for note in notes)
