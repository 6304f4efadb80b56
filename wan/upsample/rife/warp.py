"""Moving pixels along a flow, and changing the size of planes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Grid(NamedTuple):
    """The places of a picture's pixels, in the units of `grid_sample`."""

    places: Tensor
    """[1, 2, H, W] float32: x, then y, from -1 to 1."""
    pixel: Tensor
    """[1, 2, 1, 1] float32: by what a distance in pixels is divided."""


def make_grid(like: Tensor) -> Grid:
    """The grid of a picture [B, C, H, W], on its device."""
    height, width = like.shape[-2:]
    x = torch.linspace(-1, 1, width, device=like.device).expand(height, width)
    y = torch.linspace(-1, 1, height, device=like.device).unsqueeze(1).expand(height, width)
    pixel = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=like.device)
    return Grid(torch.stack((x, y)).unsqueeze(0), pixel.view(1, 2, 1, 1))


def warp(picture: Tensor, flow: Tensor, grid: Grid) -> Tensor:
    """Fetch every pixel from where the flow points; beyond the edge lies the edge.

    Args:
        picture: [B, C, H, W] float32.
        flow: [B, 2, H, W] float32, pixels to the right and down.
        grid: from `make_grid`.
    Returns:
        [B, C, H, W] float32.
    """
    # Places are kept inside here, because the padding that repeats the edge is missing on MPS.
    places = (grid.places + flow / grid.pixel).clamp_(-1, 1)
    return functional.grid_sample(
        picture,
        places.movedim(1, -1),  # B 2 H W -> B H W 2
        mode="bilinear",
        padding_mode="zeros",
        align_corners=True,
    )


def resample(planes: Tensor, factor: float) -> Tensor:
    """Change both sides by a factor, bilinearly between four pixels."""
    if factor == 1:
        return planes
    return functional.interpolate(planes, scale_factor=factor, mode="bilinear", align_corners=False)
