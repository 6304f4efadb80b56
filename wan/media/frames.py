"""Frames as the VAE, ComfyUI's nodes and the codecs want them: every conversion, one frame at a time.

Three forms occur: what a VAE gives, [C, T, H, W] in about -1..1; images, [T, H, W, C] float32 in
0..1; and pixels, [H, W, 3] uint8.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import GeometryError
from ..progress import Reporter

MUCH_MEMORY = 2_000_000_000
"""Bytes of one video from which on the user is told."""
_MADV_POPULATE_WRITE = 23  # of Linux 5.14 and newer; Python has no name for it
_NAMED = 5  # frame numbers in a note
# So few rows stay in a core's cache from the first step of a conversion to its last, which makes
# it twice as fast as with whole frames (bench/video.py).
_ROWS = 32
# As whole numbers the bits of 0 and more are in order, and those of negative numbers, infinities
# and NaN are above them all: one comparison finds what is not plain. The limit is 1e6, of which
# 255 times as much still is a 32-bit integer.
_PLAIN = np.float32(1e6).view(np.uint32)


class ToPixels:
    """Turns frames into pixels and remembers what it had to change in them."""

    def __init__(self) -> None:
        self._buffer = np.empty((0, 0, 3), np.uint8)
        self._black: list[int] = []
        self._has_alpha = False

    def __call__(self, frame: Tensor) -> np.ndarray:
        """Turn one frame into pixels.

        Args:
            frame: [H, W, 3 or more], floating point in 0..1 or uint8. Values beyond 0..1 are
                clamped, NaN pixels become black, channels beyond the third are dropped.
        Returns:
            [H, W, 3] uint8, rounded; valid until the next call.
        Raises:
            GeometryError: another shape or type.
        """
        _check(frame)
        self._has_alpha |= frame.shape[2] > 3
        colours = frame[..., :3].to("cpu")
        if colours.dtype == torch.uint8:
            self._black.append(0)
            return np.ascontiguousarray(colours.numpy())
        if self._buffer.shape != colours.shape:
            self._buffer = np.empty(tuple(colours.shape), np.uint8)
        self._black.append(round_frame(colours, self._buffer))
        return self._buffer

    def report(self, reporter: Reporter) -> None:
        """Note what was changed in the frames so far, if anything."""
        if self._has_alpha:
            reporter.note("The frames have an alpha channel; it is dropped.")
        note_black(dict(enumerate(self._black)), reporter)


def round_frame(frame: Tensor, target: np.ndarray) -> int:
    """Write a frame as pixels.

    Args:
        frame: [H, W, 3] floating point in 0..1 on the CPU; values beyond are clamped, NaN pixels
            become black.
        target: [H, W, 3] uint8, set to the nearest values.
    Returns:
        The number of NaN pixels.
    """
    import cv2

    black = 0
    for top in range(0, len(frame), _ROWS):
        rows = np.ascontiguousarray(frame[top : top + _ROWS].float().numpy())
        if rows.view(np.uint32).max() > _PLAIN:
            wrong = np.isnan(rows).any(axis=-1, keepdims=True)
            black += int(wrong.sum())
            rows = np.where(wrong, np.float32(0), rows.clip(0, 1))
        # In one pass: scaled, rounded to the nearest, and 255 where it is more.
        cv2.convertScaleAbs(rows, dst=target[top : top + _ROWS], alpha=255)
    return black


def blacken(frame: Tensor) -> tuple[Tensor, int]:
    """A frame whose NaN pixels are black, and how many those were.

    Args:
        frame: [H, W, 3]; returned itself if it has none.
    """
    # One pass without intermediate results: a sum is NaN if any number is.
    if not frame.is_floating_point() or not bool(frame.sum(dtype=torch.float32).isnan()):
        return frame, 0
    lost = frame.isnan().any(-1)
    return frame.masked_fill(lost.unsqueeze(-1), 0), int(lost.sum())


def note_black(counts: Mapping[int, int], reporter: Reporter) -> None:
    """Tell which frames had NaN pixels.

    Args:
        counts: number of such pixels by index of the frame; frames without any may be left out.
        reporter: gets one note, or none.
    """
    indices = sorted(index for index, count in counts.items() if count)
    if not indices:
        return
    named = ", ".join(map(str, indices[:_NAMED]))
    more = f" and {len(indices) - _NAMED} more" if len(indices) > _NAMED else ""
    reporter.note(
        f"Warning: frame {named}{more} held pixels that are not numbers (NaN), "
        f"{sum(counts.values())} in all. They are black now; half precision that overflows is the "
        "usual cause."
    )


def to_pixels(frame: Tensor) -> np.ndarray:
    """One frame as pixels of its own, [H, W, 3] uint8; see `ToPixels`."""
    return ToPixels()(frame)


def fill_from_pixels(batches: Iterable[Tensor], image: Tensor, reporter: Reporter) -> Tensor:
    """Write pixels over an image.

    Args:
        batches: consecutive frames, each [t, H, W, 3] uint8, as many as the image has room for.
        image: [T, H, W, 3] float32 on the CPU.
        reporter: asked before each frame whether the user cancelled.
    Returns:
        `image`, in 0..1.
    """
    frames = (frame for batch in batches for frame in batch)
    for frame, target in zip(frames, image.numpy(), strict=True):
        reporter.check_cancelled()
        np.divide(frame.numpy(), np.float32(255), out=target)
    return image


def empty_frames(
    count: int, height: int, width: int, colours: int = 3, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Memory for frames, [count, height, width, colours] on the CPU, not set."""
    memory = _memory(count * height * width * colours * dtype.itemsize)
    return memory.view(dtype).view(count, height, width, colours)


def _memory(size: int) -> Tensor:
    """So many bytes.

    The system hands out memory page by page on the first writing, which costs more than copying a
    frame. Linux can be asked for large pages, and for all at once as long as that is not so much
    that nobody could cancel meanwhile; elsewhere NumPy does what it can.
    """
    if 0 < size < MUCH_MEMORY and hasattr(mmap, "MADV_HUGEPAGE"):
        room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_HUGEPAGE, _MADV_POPULATE_WRITE):
            with suppress(OSError):  # advice that this kernel does not take
                room.madvise(advice)
        return torch.frombuffer(room, dtype=torch.uint8)
    return torch.from_numpy(np.empty(size, np.uint8))


@torch.inference_mode()
def fill_image(decoded: Tensor, frames: Tensor, signed: bool = False) -> Tensor:
    """Write what a VAE decoded over frames.

    The same as float, add 1, divide by 2, clamp, permute and contiguous, bit for bit.

    Args:
        decoded: [C, T, H, W] in about -1..1, of any floating point type, on any device.
        frames: [T, H, W, C] float32 on the CPU, of which other frames and places may be a part.
        signed: only clamp and reorder.
    Returns:
        `frames`, in 0..1, or in -1..1 where signed.
    """
    if decoded.device != frames.device:  # a device reorders faster than the CPU does
        staged = torch.empty_like(frames, device=decoded.device)
        staged.copy_(decoded.permute(1, 2, 3, 0))  # C T H W -> T H W C
        staged.clamp_(-1, 1)
        return frames.copy_(staged if signed else staged.add_(1).div_(2))
    half = torch.tensor([0.5])
    if decoded.stride(0) == 1 and len(decoded) > 1:  # in memory it has the order of images already
        for source, target in zip(decoded.permute(1, 2, 3, 0), frames, strict=True):
            for rows, written in zip(source.split(_ROWS), target.split(_ROWS), strict=True):
                if signed:
                    torch.clamp(rows.float(), -1, 1, out=written)
                else:
                    torch.add(half, rows, alpha=0.5, out=written).clamp_(0, 1)
        return frames
    scratch = torch.empty(len(decoded), _ROWS, frames.shape[2])
    for index, frame in enumerate(frames):
        for top in range(0, len(frame), _ROWS):
            target = frame[top : top + _ROWS]
            rows, source = scratch[:, : len(target)], decoded[:, index, top : top + _ROWS]
            if source.dtype != rows.dtype:
                source = rows.copy_(source)
            if signed:
                torch.clamp(source, -1, 1, out=rows)
            else:  # halving is exact, so this rounds as adding 1 and dividing by 2 does
                torch.add(half, source, alpha=0.5, out=rows).clamp_(0, 1)
            _interleave(rows, target)
    return frames


def _interleave(planes: Tensor, target: Tensor) -> None:
    import cv2

    cv2.merge(list(planes.numpy()), target.numpy())  # C H W -> H W C


def _check(frame: Any) -> None:
    usable = frame.is_floating_point() or frame.dtype == torch.uint8
    if frame.ndim != 3 or frame.shape[2] < 3 or 0 in frame.shape or not usable:
        raise GeometryError(
            what=f"A frame has the shape {list(frame.shape)} and the type "
            f"{str(frame.dtype).removeprefix('torch.')}.",
            why="A frame is [height, width, colours] with three colours, in 0..1 or as uint8.",
            fix="Connect images in colour.",
        )
