"""Whether two frames belong to one scene."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CUT = 0.2
"""Below this similarity two frames are of two scenes (hzwer/Practical-RIFE inference_video.py)."""
SIDE = 32
"""Pixels per side at which frames are compared, as there."""
# hzwer/Practical-RIFE model/pytorch_msssim: an 11x11x11 Gaussian over height, width and colours
_TAPS = 11
_DEVIATION = 1.5
_DARK = 0.01**2
_FLAT = 0.03**2


def reduce_frame(frame: Tensor) -> Tensor:
    """A frame at the size at which frames are compared.

    Args:
        frame: [1, 3, H, W] float32 in 0..1, without padding.
    Returns:
        [1, 3, 32, 32].
    """
    return functional.interpolate(frame, (SIDE, SIDE), mode="bilinear", align_corners=False)


def similarity(first: Tensor, second: Tensor) -> float:
    """Structural similarity (SSIM) of two pictures, 1 for equal ones, below 0 for opposites.

    Args:
        first, second: [1, 3, h, w] float32 in 0..1.
    Source: hzwer/Practical-RIFE model/pytorch_msssim, ssim_matlab: colours are a third axis, edges
    are repeated.
    """
    sums = [_blur(p) for p in (first, second, first * first, second * second, first * second)]
    mean1, mean2, square1, square2, product = sums
    means, both = mean1 * mean2, mean1 * mean1 + mean2 * mean2
    shared = 2 * (product - means) + _FLAT
    spread = square1 + square2 - both + _FLAT
    return float((((2 * means + _DARK) * shared) / ((both + _DARK) * spread)).mean())


def _blur(picture: Tensor) -> Tensor:
    colours, rows, columns = (_weights(size, picture) for size in picture.shape[1:])
    return torch.einsum("ac,bh,dw,nchw->nabd", colours, rows, columns, picture)


def _weights(size: int, like: Tensor) -> Tensor:
    """[size, size]: row i holds what each place adds to place i."""
    offsets = torch.arange(_TAPS) - _TAPS // 2
    taps = torch.exp(-(offsets.double() ** 2) / (2 * _DEVIATION**2))
    places = torch.arange(size).view(-1, 1) + offsets
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, places.clamp(0, size - 1), (taps / taps.sum()).expand(size, -1))
    return matrix.to(like.device, like.dtype)
