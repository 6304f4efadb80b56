"""What both upsamplers ask of frames, and memory for their results."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import GeometryError
from ..media.frames import MUCH_MEMORY, empty_frames
from ..progress import Reporter


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
        reporter.note("The frames have an alpha channel; it is dropped.")
    return frames[..., :3]


def allocate(count: int, height: int, width: int, dtype: torch.dtype, reporter: Reporter) -> Tensor:
    """Memory for a result; a note tells the user if it is more than 2 GB.

    Returns:
        [count, height, width, 3], not set.
    """
    size = count * height * width * 3 * dtype.itemsize
    if size > MUCH_MEMORY:
        reporter.note(f"{count} frames of {width}x{height} take {size / 1e9:.1f} GB of memory.")
    return empty_frames(count, height, width, dtype=dtype)
