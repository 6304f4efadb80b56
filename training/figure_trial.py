"""The finished animation miniature run by the pack itself, on a puppet that it never saw."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from wan.app.animate import run_animate
from wan.app.surroundings import Surroundings
from wan.load.companions import find_companions
from wan.load.files import find_files
from wan.load.model import load_model
from wan.miniatures import MINI, Miniature
from wan.params import ANIMATE_APP, validate
from wan.payloads import WanModel
from wan.progress import Silent
from wan.residency import DevicePlacement
from wan.save.video import write_video
from wan.tiny.puppet import Puppet, draw_puppets

from .data import PORTRAIT
from .puppets import random_colours, random_puppet

Array = np.ndarray
_LARGE, _RATE = 4, 16
_BLUE = 110  # head and hands alone are bluer
_FEWEST_PIXELS = 6


@dataclass(frozen=True)
class FigureTrial:
    """A driving figure, a character of other colours, and what was made of them.

    All [T, height, width, 3] uint8.
    """

    driving: Array
    reference: Array
    """One picture, [height, width, 3]."""
    truth: Array
    """The driving figure in the character's colours, in the scene that belongs to the mode."""
    made: Array


def open_model(folder: Path) -> WanModel:
    """The miniature in a folder, on the CPU."""
    return load_model(find_files(folder), DevicePlacement("cpu"))


def try_figure(model: WanModel, mode: str, seed: int, frames: int = 29) -> FigureTrial:
    """Let an unseen puppet drive a character of its proportions in other colours.

    Args:
        model: from `open_model`.
        mode: "animation" or "replacement".
        seed: of both figures, of the scenes and of the run.
        frames: of the video.
    """
    generator = np.random.default_rng(seed)
    driver = random_puppet(generator)
    colours = [tuple(int(v) for v in c) for c in random_colours(generator)]
    dressed = replace(
        driver, **dict(zip(("shirt", "sleeves", "trousers", "shoes"), colours, strict=True))
    )
    scene, own = (tuple(int(v) for v in c) for c in random_colours(generator)[:2])
    driving = _drawn(driver, scene, frames)
    picture = _drawn(dressed, own, 1)[0]
    with tempfile.TemporaryDirectory() as folder:
        made = _run(model, Path(folder), driving, picture, mode, seed)
    truth = _drawn(dressed, own if mode == "animation" else scene, frames)
    return FigureTrial(_small(driving), _small(picture[None])[0], _small(truth), made)


def joints_apart(trial: FigureTrial) -> list[float]:
    """Pixels between head and hands and the nearest such thing that was made, over all frames."""
    apart = []
    for frame, true in zip(trial.made, trial.truth, strict=True):
        found = list(_middles(frame))
        apart += [
            min((float(np.hypot(*(f - t))) for f in found), default=float(max(PORTRAIT)))
            for t in _middles(true)
        ]
    return apart


def _middles(frame: Array) -> Iterator[Array]:
    blue = (frame[..., 2].astype(int) > _BLUE).astype(np.uint8)
    count, _, stats, middles = cv2.connectedComponentsWithStats(blue)
    for number in range(1, count):
        if stats[number, cv2.CC_STAT_AREA] >= _FEWEST_PIXELS:
            yield middles[number]


def _drawn(puppet: Puppet, scene: tuple[int, int, int], frames: int) -> Array:
    width, height = (side * _LARGE for side in PORTRAIT)
    return draw_puppets(frames, width, height, (puppet,), scene, _RATE).frames


def _small(frames: Array) -> Array:
    return np.stack([cv2.resize(f, PORTRAIT, interpolation=cv2.INTER_AREA) for f in frames])


def _run(
    model: WanModel, folder: Path, driving: Array, picture: Array, mode: str, seed: int
) -> Array:
    from PIL import Image

    write_video(folder / "driving.mkv", [torch.from_numpy(driving)], _RATE)  # without loss
    Image.fromarray(picture).save(folder / "character.png")
    miniature = Miniature(MINI)
    given = {
        "driving_video": str(folder / "driving.mkv"),
        "reference_image": str(folder / "character.png"),
        "mode": mode,
        "seed": seed,
    }
    values = validate(miniature.adapt(ANIMATE_APP), given)
    around = Surroundings(companions=find_companions(miniature.companions))
    run_animate(values, model, folder / "out.mkv", Silent(), around)
    with av.open(str(folder / "out.mkv")) as video:
        return np.stack([f.to_ndarray(format="rgb24") for f in video.decode(video=0)])
