"""Sizes and counts: how pixels and frames become latents and tokens."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .errors import GeometryError, InputError

TEMPORAL_STRIDE = 4
"""Frames per latent frame after the first."""
SPATIAL_STRIDE = 8
"""Pixels per latent row or column."""
PATCH = 2
"""Latent rows and columns per token (the temporal patch is 1)."""
SIZE_STEP = SPATIAL_STRIDE * PATCH
"""Widths and heights are multiples of this many pixels."""
LATENT_CHANNELS = 16
TEXT_TOKENS = 512
"""The transformers split image tokens from text at this length: any other one is wrong."""

_SIZE = re.compile(r"^\s*(\d+)\s*[xX*×]\s*(\d+)\s*$")
# An exact 832x480 image gives 479.99999999999994 rows in double precision; without this the
# floor would take a whole step of 16 pixels away.
_EPSILON = 1e-6


@dataclass(frozen=True)
class LatentShape:
    """Shape of a video in latent space."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """Sequence length in the transformer."""
        return self.frames * (self.height // PATCH) * (self.width // PATCH)


def parse_size(text: str) -> tuple[int, int]:
    """Read "832x480" (also X, * or ×, spaces allowed) as (width, height) in pixels.

    Raises:
        InputError: not two numbers with a separator.
    """
    match = _SIZE.match(text) if isinstance(text, str) else None
    if match is None:
        raise InputError(
            what=f"size is {text!r}.",
            why="It must be width and height in pixels, width first.",
            fix='Write for example "832x480", "480x832" or "1280x720".',
        )
    return int(match[1]), int(match[2])


def fit_area(width: int, height: int, area: int) -> tuple[int, int]:
    """Size with about `area` pixels and the aspect of `width` x `height`, floored to 16.

    Args:
        width, height: the image whose aspect is kept, pixels.
        area: wanted width times height, pixels; the result never exceeds it.
    Returns:
        (width, height), both multiples of 16.
    Raises:
        GeometryError: a side would be zero.
    Source: Wan2.1 wan/image2video.py, with an epsilon before the floor.
    """
    if width < 1 or height < 1:
        raise GeometryError(
            what=f"The image is {width}x{height}.",
            why="It has no pixels.",
            fix="Choose another image.",
        )
    aspect = height / width
    fitted_width = _floor_to_step(math.sqrt(area / aspect))
    fitted_height = _floor_to_step(math.sqrt(area * aspect))
    if fitted_width == 0 or fitted_height == 0:
        raise GeometryError(
            what=f"An area of {area} pixels at the aspect {width}:{height} gives "
            f"{fitted_width}x{fitted_height}.",
            why=f"Both sides must be at least {SIZE_STEP} pixels after rounding down to {SIZE_STEP}.",
            fix="Choose a larger size, for example 832x480, or an image that is less narrow.",
        )
    return fitted_width, fitted_height


def _floor_to_step(value: float) -> int:
    return math.floor(value + _EPSILON) // SIZE_STEP * SIZE_STEP


def round_frames(frames: int) -> int:
    """The number of frames that is generated when `frames` are asked for: 4n+1.

    Every full group of four counts, so 80..83 give 81 and 84 gives 85.
    """
    return frames // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1


def latent_frames(frames: int) -> int:
    """Latent frames of a video of 4n+1 frames.

    Raises:
        GeometryError: `frames` is not 4n+1.
    """
    if frames < 1 or frames % TEMPORAL_STRIDE != 1:
        lower = max(1, (frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)
        raise GeometryError(
            what=f"The video has {frames} frames.",
            why="Wan works on 4n+1 frames.",
            fix=f"Use {lower} or {lower + TEMPORAL_STRIDE}.",
        )
    return (frames - 1) // TEMPORAL_STRIDE + 1


def latent_shape(width: int, height: int, frames: int) -> LatentShape:
    """Latent shape of a video.

    Raises:
        GeometryError: a side is not a positive multiple of 16, or frames are not 4n+1.
    """
    for side, pixels in (("width", width), ("height", height)):
        if pixels < SIZE_STEP or pixels % SIZE_STEP:
            lower = max(SIZE_STEP, pixels // SIZE_STEP * SIZE_STEP)
            raise GeometryError(
                what=f"The {side} is {pixels}.",
                why=f"Wan works on multiples of {SIZE_STEP} pixels.",
                fix=f"Use {lower} or {lower + SIZE_STEP}.",
            )
    return LatentShape(latent_frames(frames), height // SPATIAL_STRIDE, width // SPATIAL_STRIDE)
