"""More pixels: Pillow's Lanczos filter, frame by frame, in threads."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..media.frames import note_black, round_frame
from ..progress import Reporter, phase
from .frames import allocate, check_frames

MOST_THREADS = 16  # memory cannot feed more
_LARGEST_SIDE = 32768  # pixels; more is a slip of the pen


def resized_size(width: int, height: int, factor: float) -> tuple[int, int]:
    """Size after resizing: whole pixels of both sides times the factor, cut off, at least 1.

    Raises:
        InputError: the factor is not above 0, or a side would be longer than 32768.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(
            what=f"The factor of Lanczos is {factor}.",
            why="Sizes are multiplied by it.",
            fix="Use a number above 0, for example 2.",
        )
    size = max(1, int(width * factor)), max(1, int(height * factor))
    if max(size) > _LARGEST_SIDE:
        raise InputError(
            what=f"{width}x{height} times {factor:g} is {size[0]}x{size[1]}.",
            why=f"No side may be longer than {_LARGEST_SIDE} pixels.",
            fix=f"Use at most {_LARGEST_SIDE / max(width, height):.3g}.",
        )
    return size


def resize(frames: Tensor, factor: float, reporter: Reporter, threads: int | None = None) -> Tensor:
    """Resize all frames.

    On uint8 the result is that of Pillow bit for bit, whatever the number of threads; floating
    point frames are rounded to 8 bit before, as the filter works on those. Sides may come out odd;
    H.264 needs even ones, which is a matter of saving.

    Args:
        frames: [T, H, W, 3 or more], uint8 or floating point in 0..1; an alpha channel is dropped,
            pixels that are NaN become black; both are noted.
        factor: above 0; below 1 makes smaller.
        reporter: told once per frame.
        threads: None: one per core that this process may use.
    Returns:
        [T, height, width, 3], of the type of `frames`, on the CPU; size as `resized_size`.
    Raises:
        GeometryError: not frames.
        InputError: a factor that cannot be used.
    """
    frames = check_frames(frames, reporter)
    count, height, width = frames.shape[:3]
    width, height = resized_size(width, height, factor)
    result = allocate(count, height, width, frames.dtype, reporter)
    for _ in _each(frames, (width, height), reporter, threads, result):
        pass
    return result


def resize_each(
    frames: Tensor, factor: float, reporter: Reporter, threads: int | None = None
) -> Iterator[Tensor]:
    """Resize frame by frame, a few ahead of the one asked for, without holding the result.

    Args, Raises: as `resize`.
    Yields:
        [1, height, width, 3] each, in order.
    """
    frames = check_frames(frames, reporter)
    size = resized_size(frames.shape[2], frames.shape[1], factor)
    for frame in _each(frames, size, reporter, threads):
        yield frame.unsqueeze(0)


def _each(
    frames: Tensor,
    size: tuple[int, int],
    reporter: Reporter,
    threads: int | None,
    result: Tensor | None = None,
) -> Iterator[Tensor]:
    """Resized frames in order, written into `result` if there is one."""
    threads = threads or min(_cores(), MOST_THREADS, len(frames))
    resizer = _Resizer(frames, size, result)
    pool = ThreadPoolExecutor(threads, "lanczos")
    to_start = iter(range(len(frames)))
    started: deque[Future[Tensor]] = deque()
    try:
        with phase(reporter, "resize", len(frames)) as advance:
            started.extend(pool.submit(resizer, i) for i in islice(to_start, 2 * threads))
            while started:
                frame = started.popleft().result()
                started.extend(pool.submit(resizer, i) for i in islice(to_start, 1))
                advance()
                yield frame
    finally:
        pool.shutdown(cancel_futures=True)
    note_black(resizer.black, reporter)


class _Resizer:
    """Resizes one frame; each thread has its own room for what lies between.

    NumPy and OpenCV do the rest, because of small pieces they compute in the thread that asks:
    torch would start threads of its own in each of ours.
    """

    def __init__(self, frames: Tensor, size: tuple[int, int], result: Tensor | None) -> None:
        self._frames, self._size, self._result = frames, size, result
        self._room = threading.local()
        self.black: dict[int, int] = {}

    def __call__(self, index: int) -> Tensor:
        frame = self._frames[index].cpu()
        width, height = self._size
        if self._result is None:
            target = torch.empty(height, width, 3, dtype=frame.dtype)
        else:
            target = self._result[index]
        if frame.dtype == torch.uint8:
            target.numpy()[:] = self._filter(frame.numpy())
        elif frame.dtype == torch.float32:
            self._resize_floats(index, frame, target.numpy())
        else:
            floats = np.empty((height, width, 3), np.float32)
            self._resize_floats(index, frame, floats)
            target.copy_(torch.from_numpy(floats))
        return target

    def _resize_floats(self, index: int, frame: Tensor, target: np.ndarray) -> None:
        room = self._room
        if not hasattr(room, "pixels"):
            room.pixels = np.empty(frame.shape, np.uint8)
        self.black[index] = round_frame(frame, room.pixels)
        np.divide(self._filter(room.pixels), np.float32(255), out=target, dtype=np.float32)

    def _filter(self, pixels: np.ndarray) -> np.ndarray:
        from PIL import Image

        picture = Image.fromarray(pixels)
        return np.asarray(picture.resize(self._size, Image.Resampling.LANCZOS))


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
