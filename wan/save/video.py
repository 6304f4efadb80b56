"""Frames to a video file: looked at before the work, converted and written one at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import OutputError
from ..media.formats import Encoding, VideoFormat, format_of, offered_formats
from ..media.frames import ToPixels
from ..media.sound import Audio
from ..media.write import VideoWriter
from ..progress import Reporter, Silent, phase


def check_writable(path: Path) -> VideoFormat:
    """Find out before the work whether its result can be written.

    Returns:
        The format that the name asks for.
    Raises:
        OutputError: the folder is missing or read-only, `path` is a folder, or no video is written
            under such a name.
    """
    suffixes = ", ".join(dict.fromkeys(f.suffix for f in offered_formats()))
    chosen = format_of(path)
    reason = _obstacle(path) or ("" if chosen else f"its name does not end in one of {suffixes}")
    if chosen and not reason:
        return chosen
    raise OutputError(
        what=f"The video cannot be written to {str(path)!r}: {reason}.",
        why="It would be lost after the whole run.",
        fix=f"Choose a file that ends in one of {suffixes}, in a folder that exists and that you "
        "may write to.",
    )


def write_video(
    path: Path,
    batches: Iterable[Tensor],
    fps: Fraction | float,
    encoding: Encoding | None = None,
    *,
    audio: Audio | None = None,
    tags: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
    expected: int | None = None,
) -> int:
    """Write a video file. It appears under its name only when it is complete.

    Args:
        path: where; a file there is replaced.
        batches: consecutive frames, each [t, H, W, 3 or more], floating point in 0..1 or uint8.
            They are converted one at a time; see `ToPixels`.
        fps: frames per second, above 0.
        encoding: default: what the name asks for, at high quality.
        audio: heard from the first frame on; cut where the frames end, never lengthened.
        tags: metadata, text by name.
        reporter: told what was changed in frames and sound, and asked before each frame whether
            the user cancelled.
        expected: how many frames will come. Given, their writing is a phase of its own.
    Returns:
        The number of frames written.
    Raises:
        GeometryError: no frames, an odd side where the format needs even ones, frames of different
            sizes or without three colours.
        InputError: an fps or a sound that no file can hold.
        OutputError: the file cannot be written.
    """
    reporter = reporter or Silent()
    encoding = encoding or Encoding(check_writable(path))
    pixels = ToPixels()
    if expected is None:
        progress: AbstractContextManager[Any] = nullcontext(reporter.check_cancelled)
    else:
        progress = phase(reporter, "save video", expected)
    with VideoWriter(path, encoding, fps, audio, tags) as writer, progress as advance:
        for batch in batches:
            for frame in batch:
                writer.add(pixels(frame))
                advance()
    pixels.report(reporter)
    writer.report(reporter)
    return writer.frames


def _obstacle(path: Path) -> str:
    """Why nothing can be written under this name; empty if it can."""
    folder = path.parent
    try:
        with suppress(FileNotFoundError):
            path.lstat()
    except OSError as error:
        return f"its name cannot be used ({error.strerror})"
    if path.is_dir():
        return "it is a folder"
    if not folder.is_dir():
        return f"the folder {str(folder)!r} does not exist"
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return f"nothing can be written to {str(folder)!r} ({error.strerror})"
    return ""
