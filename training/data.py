"""Videos to learn from: scenes drawn as they are asked for, and a store of figures."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .puppets import Figure, draw_figure, random_background, random_colours, random_puppet
from .scenes import draw_scene, render

Array = np.ndarray
SQUARE, PORTRAIT = (96, 96), (80, 112)
"""Width and height of figures' pictures, pixels."""
_FIGURE_FRAMES = 25


class Videos(Protocol):
    """What an autoencoder learns from."""

    def draw(self, generator: np.random.Generator, frames: int, side: int) -> Array:
        """[frames, side, side, 3] uint8, by chance."""


class SceneVideos:
    """Sprites that move; see `scenes`."""

    def draw(self, generator: np.random.Generator, frames: int, side: int) -> Array:
        """A scene by chance."""
        return render(draw_scene(generator, frames, side))


class Figures:
    """Puppets in many proportions, drawn once and kept.

    Args:
        seed: of their proportions.
        count: how many.
        size: width and height of their pictures.
        store: a folder in which they are kept between runs; None: nowhere.
    """

    def __init__(
        self,
        seed: int = 0,
        count: int = 160,
        size: tuple[int, int] = SQUARE,
        store: Path | None = None,
    ) -> None:
        self.size = size
        path = store / f"figures-{seed}-{count}-{size[0]}x{size[1]}.npz" if store else None
        if path and path.is_file():
            with np.load(path) as kept:
                self._arrays = {name: kept[name] for name in kept}
            return
        generator = np.random.default_rng(seed)
        drawn = [draw_figure(random_puppet(generator), _FIGURE_FRAMES, *size) for _ in range(count)]
        names = [f.name for f in fields(Figure)]
        self._arrays = {name: np.stack([getattr(f, name) for f in drawn]) for name in names}
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **self._arrays)

    def draw(self, generator: np.random.Generator, frames: int) -> Figure:
        """A stretch of one figure's motion, by chance."""
        figure = self.whole(int(generator.integers(len(self._arrays["fixed"]))))
        return figure.cut(int(generator.integers(figure.frames - frames + 1)), frames)

    def whole(self, number: int) -> Figure:
        """All frames of one figure."""
        return Figure(**{name: values[number] for name, values in self._arrays.items()})

    def __len__(self) -> int:
        return len(self._arrays["fixed"])


class FigureVideos:
    """All that the autoencoder of the animation meets: figures, skeletons, scenes with a hole."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def draw(self, generator: np.random.Generator, frames: int, side: int) -> Array:
        """A piece of that size of one of them."""
        figure = self._figures.draw(generator, frames)
        kind = generator.random()
        if kind < 0.2:
            video = figure.skeletons
        else:
            colours = random_colours(generator)
            video = figure.paint(colours, random_background(generator, *self._figures.size))
            if kind < 0.35:
                video[figure.silhouettes if kind < 0.28 else blocks(figure.silhouettes)] = 0
        width, height = self._figures.size
        row = generator.integers(height - side + 1)
        column = generator.integers(width - side + 1)
        return video[:, row : row + side, column : column + side]


def blocks(mask: Array, size: int = 16) -> Array:
    """[T, H, W] bool: every square of `size` pixels that the mask touches."""
    frames, height, width = mask.shape
    cells = mask.reshape(frames, height // size, size, width // size, size).any((2, 4))
    return cells.repeat(size, 1).repeat(size, 2)


def to_tensor(clip: Array) -> Tensor:
    """[1, 3, T, H, W] float32 in -1..1."""
    frames = torch.from_numpy(np.ascontiguousarray(clip))
    return frames.permute(3, 0, 1, 2)[None].float().div_(127.5).sub_(1)
