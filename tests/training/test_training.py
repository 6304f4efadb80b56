"""Every training runs a few steps, goes on where it stopped, and leaves what the pack can load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("scenes", "figures", "decoder-scenes", "image-to-video", "animation", "lora")

LOGGED = ("vae-scenes", "vae-figures", "decoder-scenes", "image-to-video", "animation", "lora")


def train(folder, stage, steps):
    command = [sys.executable, "-m", "training", stage, "--folder", str(folder)]
    command += ["--steps", str(steps), "--scale", "0.004"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of all trainings, two steps each."""
    folder = tmp_path_factory.mktemp("training")
    for stage in STAGES:
        assert Path(train(folder, stage, 2)).exists()
    return folder


def test_each_stage_logs_and_keeps_a_checkpoint(trained):
    for name in LOGGED:
        assert torch.load(trained / f"{name}.pt", weights_only=True)["step"] == 2
    logged = {json.loads(line)["run"] for line in (trained / "log.jsonl").read_text().splitlines()}
    assert len(logged) == len(STAGES)


def test_an_interrupted_training_goes_on(trained):
    before = torch.load(trained / "image-to-video.pt", weights_only=True)
    train(trained, "image-to-video", 3)
    after = torch.load(trained / "image-to-video.pt", weights_only=True)
    assert (before["step"], after["step"]) == (2, 3)
    moments = after["optimizer"]["state"][0]
    assert float(moments["step"]) == 3  # the optimizer remembers, too


def test_what_was_trained_is_assembled_and_runs(trained, tmp_path):
    target = tmp_path / "wan-mini"
    script = (
        "import sys; from pathlib import Path; from training.assemble import assemble; "
        "assemble(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, str(trained), str(target)], cwd=ROOT, check=True)
    from wan_local.wan.load.files import find_files
    from wan_local.wan.load.model import load_model
    from wan_local.wan.payloads import Variant
    from wan_local.wan.residency import DevicePlacement

    for folder, variant in (("i2v", Variant.I2V), ("animate", Variant.ANIMATE)):
        model = load_model(find_files(target / folder), DevicePlacement("cpu"))
        assert model.variant is variant and model.is_miniature
        with model.transformer.on_device() as transformer:
            assert all(p.isfinite().all() for p in transformer.parameters())


def test_either_of_two_sprites_may_be_named():
    from mini_runs import name_other, render, scenes

    pairs = [scene for scene in scenes(300, 2000) if len(scene.sprites) == 2]
    assert 60 < len(pairs) < 150
    for scene in pairs:
        standing, moving = scene.sprites
        assert moving.colour in scene.caption and standing.colour not in scene.caption
        assert np.array_equal(render(scene)[0], render(name_other(scene))[0])  # they never touch
    left = sum(scene.sprites[-1].x < 0.5 for scene in pairs) / len(pairs)
    assert 0.35 < left < 0.65  # so that places tell nothing


def test_scenes_do_what_they_say():
    from mini_runs import judge, moving_so, render, scenes, wanted

    for scene in scenes(20, 900):
        assert judge(render(scene), scene) == wanted(scene)
    left, right = (
        moving_so(scenes(1, 901)[0], f"moves {way}", "fast") for way in ("left", "right")
    )
    assert np.array_equal(render(left)[0], render(right)[0])
    assert not np.array_equal(render(left)[-1], render(right)[-1])


def test_a_step_is_computed_on_the_device_that_was_named():
    script = Path(__file__).with_name("step_on_meta.py")
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["meta"] * 3
