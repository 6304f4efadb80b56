"""Seeds and noise: drawn once, reported, the same on every device."""

from __future__ import annotations

import secrets

import torch
from torch import Tensor

from .geometry import LATENT_CHANNELS, LatentShape
from .progress import Reporter

MAX_DRAWN_SEED = 2**31 - 1
"""Drawn seeds stay small enough to be read out and typed in again."""


def resolve_seed(seed: int | None, reporter: Reporter | None = None) -> int:
    """The seed to use: `seed` itself, or a drawn one, which the reporter is told.

    Args:
        seed: None and negative values ask for a drawn one.
    """
    if seed is not None and seed >= 0:
        return seed
    drawn = secrets.randbelow(MAX_DRAWN_SEED + 1)
    if reporter is not None:
        reporter.note(f"seed {drawn} was drawn")
    return drawn


def make_generator(seed: int) -> torch.Generator:
    """A CPU generator, so that a seed gives the same video on every device."""
    return torch.Generator("cpu").manual_seed(seed)


def draw_noise(shape: LatentShape, generator: torch.Generator) -> Tensor:
    """Starting noise of one clip.

    Returns:
        [1, 16, T, H/8, W/8] float32 on the CPU.
    """
    size = (LATENT_CHANNELS, shape.frames, shape.height, shape.width)
    return torch.randn(size, generator=generator, dtype=torch.float32).unsqueeze(0)
