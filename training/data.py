"""Videos to learn from: scenes drawn as they are asked for, and a store of puppets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .puppets import draw_clip, random_puppet
from .scenes import draw_scene, render

Array = np.ndarray


class Videos:
    """Scenes, puppets and skeletons for the autoencoder.

    Args:
        seed: of the puppets.
        puppets: how many are drawn and kept.
        store: where they are kept between runs; None: nowhere.
    """

    def __init__(self, seed: int = 0, puppets: int = 120, store: Path | None = None) -> None:
        generator = np.random.default_rng(seed)
        path = store / f"puppets-{seed}-{puppets}.npz" if store else None
        if path and path.is_file():
            with np.load(path) as kept:
                self._figures, self._skeletons = kept["figures"], kept["skeletons"]
            return
        clips = []
        for _ in range(puppets):
            red, green = (int(v) for v in generator.integers(20, 221, 2))
            background = (red, green, int(generator.integers(20, 41)))
            clips.append(draw_clip(random_puppet(generator), background, 17, 96))
        self._figures = np.stack([clip.frames for clip in clips])
        self._skeletons = np.stack([clip.skeletons for clip in clips])
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, figures=self._figures, skeletons=self._skeletons)

    def draw(self, generator: np.random.Generator, frames: int, side: int) -> Array:
        """[frames, side, side, 3] uint8: mostly scenes."""
        kind = generator.random()
        if kind < 0.72 or not len(self._figures):
            return render(draw_scene(generator, frames, side))
        source = self._figures if kind < 0.88 else self._skeletons
        clip = source[int(generator.integers(len(source)))]
        first = int(generator.integers(0, len(clip) - frames + 1))
        clip = clip[first : first + frames]
        place = 0 if side == 96 else int(generator.integers(0, 96 - side + 1))
        return clip[:, place : place + side, 16 : 16 + side] if side < 96 else clip


def to_tensor(clip: Array) -> Tensor:
    """[1, 3, T, H, W] float32 in -1..1."""
    frames = torch.from_numpy(np.ascontiguousarray(clip))
    return frames.permute(3, 0, 1, 2)[None].float().div_(127.5).sub_(1)
