"""Keeping the colours of a long video from drifting, clip by clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

COLOUR_MATCHES = ("off", "first clip", "reference")
"""What the colours of later clips are matched to."""
# Added to the variances, in units of -1..1: a picture of one colour has none to divide by.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Palette:
    """Mean and spread of the colours in some frames."""

    mean: Tensor
    """[3] float64."""
    covariance: Tensor
    """[3, 3] float64."""


def check_match(colour_match: str) -> None:
    """Refuse a choice that is none of `COLOUR_MATCHES`.

    Raises:
        InputError: it is another one.
    """
    if colour_match not in COLOUR_MATCHES:
        raise InputError(
            what=f"colour_match is {colour_match!r}.",
            why="It says what the colours of each clip are matched to.",
            fix=f"Use one of: {', '.join(COLOUR_MATCHES)}.",
        )


def measure_palette(frames: Tensor) -> Palette:
    """Mean and covariance of all pixels.

    Args:
        frames: [T, H, W, 3] float32, any range; 1 pixel or more.
    """
    total = torch.zeros(3, dtype=torch.float64)
    squares = torch.zeros(3, 3, dtype=torch.float64)
    for frame in frames:
        pixels = frame.reshape(-1, 3).double()
        total += pixels.sum(0)
        squares += pixels.T @ pixels
    count = frames[..., 0].numel()
    mean = total / count
    return Palette(mean, squares / count - torch.outer(mean, mean))


def match_palette(frames: Tensor, own: Palette, target: Palette) -> None:
    """Change colours in place so that those of one palette become those of another.

    Of all linear maps that do so this one moves the colours least (Monge-Kantorovitch).

    Args:
        frames: [T, H, W, 3] float32 in -1..1; stays in this range.
        own: of the frames, or of those among them that count.
        target: what these will have, but for colours that leave the range.
    Source: Pitie and Kokaram 2007, "The linear Monge-Kantorovitch linear colour mapping".
    """
    here, there = (p.covariance + _LEAST_VARIANCE * torch.eye(3).double() for p in (own, target))
    root = _power(here, 0.5)
    inverse = _power(here, -0.5)
    matrix = inverse @ _power(root @ there @ root, 0.5) @ inverse
    offset = target.mean - own.mean @ matrix
    for frame in frames:
        frame.copy_((frame @ matrix.float()).add_(offset.float()).clamp_(-1, 1))


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric matrix with eigenvalues above 0."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp_min(_LEAST_VARIANCE**2) ** exponent) @ vectors.T
