"""What both upsamplers ask of frames, and what they do about pixels that are none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..errors import GeometryError
from ..progress import Reporter

_MUCH_MEMORY = 2_000_000_000  # bytes
_NAMED = 5  # frame numbers in a note


def check_frames(frames: Tensor, reporter: Reporter) -> Tensor:
    """Make sure that these are frames, and leave out transparency with a note.

    Args:
        frames: [T, H, W, C], uint8 or floating point in 0..1, C 3 or more.
        reporter: gets the note.
    Returns:
        [T, H, W, 3], a view.
    Raises:
        GeometryError: another shape or type, or no frame.
    """
    is_picture = frames.dtype == torch.uint8 or frames.is_floating_point()
    if frames.ndim != 4 or 0 in frames.shape or frames.shape[-1] < 3 or not is_picture:
        raise GeometryError(
            what=f"Frames of shape {list(frames.shape)} and type "
            f"{str(frames.dtype).removeprefix('torch.')} were given.",
            why="A video is at least one frame of [height, width, 3 colours], in 0..1 or 0..255.",
            fix="Connect an IMAGE batch, for example from Wan Decode.",
        )
    if frames.shape[-1] > 3:
        reporter.note("The frames' alpha channel is left out.")
    return frames[..., :3]


def allocate(count: int, height: int, width: int, dtype: torch.dtype, reporter: Reporter) -> Tensor:
    """Memory for a result; a note tells the user if it is more than 2 GB.

    Returns:
        [count, height, width, 3], not set.
    """
    size = count * height * width * 3 * dtype.itemsize
    if size > _MUCH_MEMORY:
        reporter.note(f"{count} frames of {width}x{height} take {size / 1e9:.1f} GB of memory.")
    # NumPy asks for large memory pages; without them the first writing takes several times as long.
    memory = torch.from_numpy(np.empty(size, np.uint8))
    return memory.view(dtype).view(count, height, width, 3)


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
