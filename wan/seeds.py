"""Seeds and noise: drawn once, reported, the same on every device."""

from __future__ import annotations

import secrets

import torch
from torch import Tensor

from .geometry import LATENT_CHANNELS, LatentShape

MAX_DRAWN_SEED = 2**31 - 1
"""Drawn seeds stay small enough to be read out and typed in again."""


def resolve_seed(seed: int | None) -> int:
    """The seed to use: `seed` itself, or a drawn one for None and negative values."""
    if seed is None or seed < 0:
        return secrets.randbelow(MAX_DRAWN_SEED + 1)
    return seed


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
