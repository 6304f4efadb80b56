"""Frames brought upright and to a size without cutting anything off: scaled, then black bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import GeometryError
from ..geometry import fit_area
from ..progress import Reporter
from .frames import MUCH_MEMORY, empty_frames

Picture = TypeVar("Picture", np.ndarray, Tensor)
Resize = Callable[[np.ndarray], np.ndarray] | tuple[int, int] | None
"""How frames [H, W, 3] uint8 come to the working size: a function that always gives the same size,
or (width, height) to letterbox into, or None to keep theirs."""


class FrameFit:
    """Brings the frames of one video to one size.

    Args:
        resize: see `Resize`.
        width, height: pixels of the frames that will come.
    """

    def __init__(self, resize: Resize, width: int, height: int) -> None:
        self._resize = resize
        # A black frame tells the working size before the first frame is there.
        self.height, self.width = self._apply(np.zeros((height, width, 3), np.uint8)).shape[:2]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Fit one frame.

        Args:
            frame: [H, W, 3] uint8.
        Returns:
            [self.height, self.width, 3] uint8; may be `frame` itself.
        Raises:
            GeometryError: the frame comes out at another size than the others.
        """
        fitted = self._apply(frame)
        if fitted.shape != (self.height, self.width, 3):
            raise GeometryError(
                what=f"A frame is {fitted.shape[1]}x{fitted.shape[0]}, the video's other frames "
                f"are {self.width}x{self.height}.",
                why="All frames of a video must have one size.",
                fix=f"Resize the frames to {self.width}x{self.height} while they are read.",
            )
        return fitted

    def allocate(self, count: int, reporter: Reporter) -> Tensor:
        """Memory for `count` frames; a note tells the user if it is more than 2 GB.

        Returns:
            [count, self.height, self.width, 3] uint8, not set.
        """
        size = count * self.height * self.width * 3
        if size > MUCH_MEMORY:
            reporter.note(
                f"{count} frames of {self.width}x{self.height} take {size / 1e9:.1f} GB of memory; "
                "a lower fps, fewer frames or a smaller resolution take less."
            )
        return empty_frames(count, self.height, self.width, dtype=torch.uint8)

    def _apply(self, frame: np.ndarray) -> np.ndarray:
        if self._resize is None:
            return frame
        if callable(self._resize):
            return self._resize(frame)
        return resize_to(frame, *self._resize)


def resize_by_area(picture: Picture, area: int) -> Picture:
    """Resize to about `area` pixels at the picture's own aspect, both sides multiples of 16.

    Rounding down to 16 changes the aspect a little; black bars make up for it.

    Args:
        picture: [H, W, C] uint8.
        area: wanted width times height, pixels; never exceeded.
    Returns:
        [h, w, C] uint8, of the same kind as `picture`.
    Raises:
        GeometryError: a side would be zero, or `picture` is no uint8 picture.
    Source: Wan2.2 wan/modules/animate/preprocess/utils.py, resize_by_area. Its search for a better
    size always fails there and never counts; what follows the failure is the rule.
    """
    height, width = _pixels(picture).shape[:2]
    return resize_to(picture, *fit_area(width, height, area))


def resize_to(picture: Picture, width: int, height: int) -> Picture:
    """Letterbox with the filter that suits the direction: averaging if pixels become fewer.

    Args:
        picture: [H, W, C] or [H, W] uint8.
        width, height: pixels of the result.
    Returns:
        [height, width, C] or [height, width] uint8, of the same kind as `picture`.
    Raises:
        GeometryError: a side is zero, or `picture` is no uint8 picture.
    """
    rows, columns = _pixels(picture).shape[:2]
    return letterbox(picture, width, height, averaging=width * height < columns * rows)


def letterbox(picture: Picture, width: int, height: int, averaging: bool = False) -> Picture:
    """Scale a picture to fit into width x height, in the middle of black; nothing is cropped.

    Args:
        picture: [H, W, C] or [H, W] uint8.
        width, height: pixels of the result.
        averaging: shrink by averaging areas of pixels instead of bilinearly between four.
    Returns:
        [height, width, C] or [height, width] uint8, of the same kind as `picture`.
    Raises:
        GeometryError: a side is zero, or `picture` is no uint8 picture.
    Source: Wan2.2 wan/modules/animate/preprocess/utils.py, padding_resize. Unlike there, a picture
    of exactly the wanted aspect always fills the result: rounding errors cost it a row (1440x1080
    in 832x624, for example), which stays in the video as a black line.
    """
    import cv2

    pixels = _pixels(picture)
    if width < 1 or height < 1:
        raise GeometryError(
            what=f"The wanted size is {width}x{height}.",
            why="A picture needs at least one pixel.",
            fix="Choose for example 832x480.",
        )
    columns, rows, left, top = _place(pixels.shape[1], pixels.shape[0], width, height)
    way = cv2.INTER_AREA if averaging else cv2.INTER_LINEAR
    # A last axis of one channel gets lost in OpenCV.
    scaled = cv2.resize(pixels, (columns, rows), interpolation=way)
    scaled = scaled.reshape(rows, columns, *pixels.shape[2:])
    if (columns, rows) != (width, height):
        canvas = np.zeros((height, width, *pixels.shape[2:]), np.uint8)
        canvas[top : top + rows, left : left + columns] = scaled
        scaled = canvas
    result: Any = torch.from_numpy(scaled) if isinstance(picture, Tensor) else scaled
    return result


def _place(columns: int, rows: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Size and left upper corner of a columns x rows picture in width x height."""
    if rows * width == columns * height:
        return width, height, 0, 0
    # The order of the operations is the reference's: it decides where a side falls on a whole number.
    if rows / columns > height / width:
        scaled = max(1, int(height / rows * columns))
        return scaled, height, (width - scaled) // 2, 0
    scaled = max(1, int(width / columns * rows))
    return width, scaled, 0, (height - scaled) // 2


def _pixels(picture: Any) -> np.ndarray:
    pixels = picture.numpy() if isinstance(picture, Tensor) else picture
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise GeometryError(
            what=f"A picture of shape {tuple(pixels.shape)} and type {pixels.dtype} was given.",
            why="Resizing works on one [height, width, colours] picture of type uint8.",
            fix="Give one frame of a video at a time, in 0..255.",
        )
    return pixels
