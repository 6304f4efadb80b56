"""The finished miniature run by the pack itself, on scenes that it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wan.decode.vae import decode_video
from wan.encode.condition import EndFrame, condition_on_image
from wan.encode.prompt import encode_prompts
from wan.load.files import find_files
from wan.load.lora.apply import apply_lora
from wan.load.model import load_model
from wan.payloads import TextEmbeds, WanModel
from wan.progress import Silent
from wan.residency import DevicePlacement
from wan.sample.guidance import Guidance
from wan.sample.settings import SampleSettings
from wan.sample.video import sample_video

from .judge import judge, psnr
from .scenes import JUMP, Scene, draw_scene, moving_so, render

SETTINGS = SampleSettings(
    steps=12, guidance=Guidance(2.0, cfg_star=False), solver="unipc", shift=3.0, seed=1
)
UNSEEN = 70_000
"""Seeds from here on are in no training."""
CONTRAST = 50
"""Levels of 255, see `draw_scene`."""


def open_model(folder: Path) -> WanModel:
    """The miniature in a folder, on the CPU."""
    return load_model(find_files(folder), DevicePlacement("cpu"))


def scenes(count: int, seed: int = UNSEEN, **facts: int) -> list[Scene]:
    """Unseen scenes whose captions have one right answer, and whose sprites stand out.

    What a sprite of its background's colour does can be seen by nobody.

    Args:
        count: how many.
        seed: of the first.
        facts: frames or side of all.
    """
    return [
        draw_scene(np.random.default_rng(seed + n), vague=0, contrast=CONTRAST, **facts)
        for n in range(count)
    ]


def run(
    model: WanModel,
    scene: Scene,
    settings: SampleSettings = SETTINGS,
    prompt: str | None = None,
    end: Tensor | None = None,
) -> np.ndarray:
    """Continue a scene's first frame: [T, H, W, 3] uint8.

    Args:
        model: from `open_model`.
        scene: gives picture, length and size.
        settings: of the sampler.
        prompt: in place of the caption; "" is truly empty.
        end: the end frame, [H, W, 3] in 0..1.
    """
    silent = Silent()
    text = _text(model, scene.caption if prompt is None else prompt)
    picture = torch.from_numpy(render(scene)[0]).float() / 255
    condition = condition_on_image(
        model,
        picture,
        scene.side,
        scene.side,
        scene.frames,
        silent,
        EndFrame(end) if end is not None else None,
    )
    video = sample_video(model, text, condition, settings, silent)
    frames = decode_video(model, video, silent)
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def _text(model: WanModel, prompt: str) -> TextEmbeds:
    # blank prompts are refused, blank negatives are not
    text = encode_prompts(model, prompt or "-", "" if prompt else " ", Silent())
    return text if prompt else replace(text, positive=text.negative)


def measure(
    model: WanModel, show: Callable[[list[np.ndarray]], list[np.ndarray]], count: int = 100
) -> dict[str, float]:
    """Figures for the model card: shares of prompts followed, and distances to the truth.

    Args:
        model: from `open_model`.
        show: what its autoencoder shows of clips.
        count: of scenes.
    """
    found: dict[str, float] = {}
    for scale, prompt in ((1.0, None), (2.0, None), (4.0, None), (1.0, "")):
        settings = replace(SETTINGS, guidance=Guidance(scale, cfg_star=False))
        exact = motion = shown = 0
        distance = 0.0
        for scene in scenes(count):
            moving = scene.sprites[-1]
            wanted = moving.motion, moving.speed if moving.motion != "stays still" else "slowly"
            made = run(model, scene, settings, prompt)
            told = judge(made, scene)
            exact, motion = exact + (told == wanted), motion + (told[0] == wanted[0])
            if prompt is None and scale == SETTINGS.guidance.scale:
                shown += judge(made, scene, show) == wanted
            distance += psnr(made, render(scene)) / count
        name = f"guidance {scale:g}" if prompt is None else "no prompt"
        found |= {f"{name}, exact": exact / count, f"{name}, motion": motion / count}
        found[f"{name}, PSNR to truth"] = round(distance, 2)
        if shown:
            found["as shown"] = shown / count
    return found


def measure_lora(model: WanModel, lora: Path, count: int = 20) -> dict[str, float]:
    """PSNR to the true jump without, with half and with the whole LoRA."""
    found = {}
    for strength in (0.0, 0.5, 1.0):
        changed = apply_lora(model, lora, strength, Silent()) if strength else model
        jumping = [moving_so(scene, JUMP, "fast") for scene in scenes(count)]
        distances = [psnr(run(changed, scene), render(scene)) for scene in jumping]
        found[f"LoRA {strength:g}"] = round(float(np.mean(distances)), 2)
    return found
