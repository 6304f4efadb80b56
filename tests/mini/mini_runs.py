"""Runs of the trained miniature on scenes that it never saw."""

import importlib.util
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from wan_local.wan.decode.vae import decode_video
from wan_local.wan.encode.condition import EndFrame, condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.load.model import load_model
from wan_local.wan.miniatures import MINI, Miniature
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.settings import SampleOptions, SampleSettings
from wan_local.wan.sample.video import sample_video

ROOT = Path(__file__).resolve().parents[2]
CPU = DevicePlacement("cpu")
SILENT = Silent()
UNSEEN = 80_000
"""Seeds from here on are in no training, and in none of the model card's figures."""
# The joint pass makes the same video in less time.
PLAIN = SampleSettings(
    steps=12,
    guidance=Guidance(3.0, cfg_star=False),
    solver="unipc",
    shift=3.0,
    seed=5,
    options=SampleOptions(joint_pass=True),
)


def _load_training():
    """The package `training` without the checkout's folder on sys.path."""
    if "training" not in sys.modules:
        folder = ROOT / "training"
        spec = importlib.util.spec_from_file_location(
            "training", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["training"] = module
        spec.loader.exec_module(module)


_load_training()
from training.judge import judge, psnr  # noqa: E402, F401
from training.scenes import (  # noqa: E402, F401
    JUMP,
    draw_scene,
    moving_so,
    name_other,
    render,
)


@cache
def model(variant=Variant.I2V):
    """The shipped miniature."""
    return load_model(Miniature(MINI).files(variant), CPU)


def scenes(count, first=0, **facts):
    """Scenes whose captions have one right answer."""
    generators = (np.random.default_rng(UNSEEN + first + n) for n in range(count))
    return [draw_scene(generator, vague=0, contrast=50, **facts) for generator in generators]


def wanted(scene):
    """What `judge` says of a video that follows the caption."""
    moving = scene.sprites[-1]
    return moving.motion, "slowly" if moving.motion == "stays still" else moving.speed


def picture(scene, number=0):
    """[H, W, 3] in 0..1, the true frame of that number."""
    return torch.from_numpy(render(scene)[number]).float() / 255


def run(scene, settings=PLAIN, weights=None, prompt=None, end=None, report=None):
    """The scene's first frame continued, [T, H, W, 3] uint8.

    Args:
        prompt: in place of the caption; "" is truly empty.
        end: an `EndFrame`.
        report: a list to which the sampler's report is added.
    """
    weights = weights or model()
    text = encode_prompts(weights, prompt or scene.caption, " " if prompt == "" else "", SILENT)
    if prompt == "":  # refused as a prompt, but not as a negative
        text = replace(text, positive=text.negative)
    size = scene.side, scene.side, scene.frames
    condition = condition_on_image(weights, picture(scene), *size, SILENT, end)
    video = sample_video(weights, text, condition, settings, SILENT)
    if report is not None:
        report.append(video.report)
    frames = decode_video(weights, video, SILENT)
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).numpy()


@cache
def plain(number, **facts):
    """The plain run of one scene, made once for all tests."""
    return run(scenes(1, number)[0])


def end_frame(scene, extra_latent):
    """The true last frame, as the sampler takes it."""
    return EndFrame(picture(scene, -1), extra_latent)
