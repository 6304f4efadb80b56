"""What of a video is given, as the mask channels of Wan's latents say it.

Three masks are about, and they are turned into each other only here: the mask of a person
(1 = make anew), that of a frame (1 = given), and Wan's packed one (1 = given).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import SPATIAL_STRIDE, TEMPORAL_STRIDE


def pack_mask(known: Tensor) -> Tensor:
    """Pack what is given in each frame into the four mask channels of latents.

    Args:
        known: [T, ...], 1 = given, T = 4n+1; further axes, if any, are rows and columns.
    Returns:
        [4, n+1, ...]: frame 0 fills all four rows of latent 0, frame f > 0 lands at row
        (f+3) mod 4 of latent (f+3) div 4.
    Source: Wan2.1 wan/image2video.py; Wan2.2 wan/animate.py, get_i2v_mask.
    """
    first = known[:1].repeat_interleave(TEMPORAL_STRIDE, 0)
    return torch.cat([first, known[1:]]).unflatten(0, (-1, TEMPORAL_STRIDE)).transpose(0, 1)


def keep_around(person: Tensor) -> Tensor:
    """What of a scene is given around the person to replace, at the size of latents.

    Args:
        person: [T, H, W] uint8, 1 = the person.
    Returns:
        [T, H/8, W/8] float32, 1 = keep: of each 8 x 8 pixels the upper left one decides.
    Source: Wan2.2 wan/animate.py, nearest interpolation.
    """
    return 1 - person[:, ::SPATIAL_STRIDE, ::SPATIAL_STRIDE].float()
