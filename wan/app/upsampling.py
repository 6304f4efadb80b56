"""The end of an app: more frames, then more pixels, and a saved video even where that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import Cancelled, UpsamplingError, WanError
from ..media.frames import note_black, round_frame
from ..progress import Reporter
from ..spread import Spread
from ..upsample.frames import allocate
from ..upsample.lanczos import resize_each, resized_size
from ..upsample.parts import FRAMES, PAIRS, interpolate_spread, resize_spread
from ..upsample.rife.interpolate import interpolate
from ..upsample.rife.load import Rife, find_rife, load_rife
from .surroundings import Surroundings

TEMPORAL = {"": 1, "rife2": 2, "rife4": 4}
"""Frames per frame, by value of temporal_upsampling."""
SPATIAL = {"": 1.0, "lanczos1.5": 1.5, "lanczos2": 2.0}
"""Factor of both sides, by value of spatial_upsampling."""

Write = Callable[[Iterable[Tensor], int], int]
"""Writes batches of frames, uint8 or floating point in 0..1, at so many per second; gives their
number."""


@dataclass(frozen=True)
class Upsampling:
    """What happens to decoded frames before they are saved."""

    rife: Rife | None
    """None: the frames stay as many as they are."""
    frame_factor: int
    size_factor: float
    spread: Spread | None = None
    """Where parts of a long video are computed as well."""

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to do."""
        return self.rife is not None or self.size_factor != 1

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the saved video, in pixels."""
        return resized_size(width, height, self.size_factor)

    def apply(self, frames: Tensor, reporter: Reporter) -> Iterator[Tensor]:
        """Upsample frames [T, H, W, 3] uint8; gives the new ones in order, in batches."""
        if self.rife is not None:
            factor, spread = self.frame_factor, self.spread
            if spread and len(frames) > PAIRS + 1:
                frames = interpolate_spread(frames, self.rife, factor, reporter, spread)
            else:
                frames = interpolate(frames, self.rife, factor, reporter)
        if self.size_factor == 1:
            yield frames
        elif self.spread and len(frames) > FRAMES:
            yield from resize_spread(frames, self.size_factor, reporter, self.spread)
        else:
            yield from resize_each(frames, self.size_factor, reporter)


def prepare_upsampling(
    values: Mapping[str, Any], around: Surroundings, reporter: Reporter
) -> Upsampling:
    """Look for what upsampling will need, before hours of sampling.

    Args:
        values: gives temporal_upsampling and spatial_upsampling.
        around: gives the folders of RIFE and who will own the network.
        reporter: is told which weights were chosen.
    Raises:
        MissingFileError: RIFE is wanted, and no file can be used.
    """
    factor, rife = TEMPORAL[values["temporal_upsampling"]], None
    if factor > 1:
        rife = load_rife(find_rife(around.rife_folders), around.placement)
        reporter.note(f"temporal_upsampling: {rife.name} ({rife.layout.label})")
    return Upsampling(rife, factor, SPATIAL[values["spatial_upsampling"]], around.spread)


def save_video(
    out: Path,
    decoded: Iterable[tuple[int, Tensor]],
    shape: tuple[int, int, int],
    fps: int,
    upsampling: Upsampling,
    write: Write,
    reporter: Reporter,
) -> int:
    """Upsample and write a video. Between the stages frames are held once, with 8 bits.

    Args:
        out: the file, as `write` knows it.
        decoded: as `decode_frames` yields them.
        shape: (frames, height, width) that will come.
        fps: of the decoded frames; interpolation multiplies it.
        upsampling: what to do.
        write: writes the file.
        reporter: progress and notes.
    Returns:
        The number of frames written.
    Raises:
        UpsamplingError: upsampling failed; the video is saved without it.
        OutputError: the file cannot be written.
    """
    if not upsampling.is_wanted:
        return write((frames for _, frames in decoded), fps)
    video = _collect(decoded, shape, reporter)
    try:
        return write(upsampling.apply(video, reporter), fps * upsampling.frame_factor)
    except Cancelled:
        raise
    except Exception as error:
        count = write([video], fps)
        raise _failed(error, out, count, fps) from error


def _collect(
    decoded: Iterable[tuple[int, Tensor]], shape: tuple[int, int, int], reporter: Reporter
) -> Tensor:
    """All decoded frames, [T, H, W, 3] uint8."""
    video = allocate(*shape, torch.uint8, reporter)
    black = {}
    for first, frames in decoded:
        for index, frame in enumerate(frames, first):
            black[index] = round_frame(frame, video[index].numpy())
    note_black(black, reporter)
    return video


def _failed(error: Exception, out: Path, count: int, fps: int) -> UpsamplingError:
    lines = str(error).splitlines()
    reason = (lines[0] if lines else type(error).__name__).rstrip(".")
    return UpsamplingError(
        what=f"Upsampling failed: {reason}.",
        why=f"What was sampled is kept: '{out}' holds the video without upsampling, {count} frames "
        f"at {fps} fps.",
        fix=error.fix
        if isinstance(error, WanError)
        else "Run again with temporal_upsampling or spatial_upsampling left out, or upsample that file.",
        saved=out,
    )
