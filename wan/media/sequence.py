"""A video as numbered frames, each of which may be made only when it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..errors import GeometryError

Array = np.ndarray


class Frames(Protocol):
    """A video: uint8 frames [H, W, 3] RGB by number, for example one array [T, H, W, 3]."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Array: ...


class MadeFrames:
    """Frames that take no memory until they are asked for, and then only for the moment.

    Args:
        count: number of frames.
        make: the frame of a number from 0 to count - 1, [H, W, 3] uint8.
    """

    def __init__(self, count: int, make: Callable[[int], Array]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        """Number of frames."""
        return self._count

    def __getitem__(self, number: int) -> Array:
        """One frame."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        return self._make(number)


def pixels(frames: Frames, number: int) -> Array:
    """One frame as an array.

    Args:
        frames: arrays or tensors.
        number: of the frame.
    Returns:
        [H, W, 3] uint8 RGB.
    Raises:
        GeometryError: another shape or type.
    """
    given: Any = frames[number]
    frame = np.asarray(given.cpu() if hasattr(given, "cpu") else given)
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise GeometryError(
            what=f"Frame {number} is {frame.dtype} of the shape {frame.shape}.",
            why="Wanted are uint8 frames of height, width and three colours.",
            fix="Convert the frames to 0..255 RGB without transparency.",
        )
    return frame
