"""Writing a video file: frame by frame, and under its name only when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy as np

from ..errors import GeometryError, InputError, OutputError
from ..progress import Reporter
from .formats import Encoding
from .sound import Audio
from .soundtrack import Soundtrack, check_sound
from .video import FINEST_RATE

# Codes of ISO/IEC 23091-2 and of FFmpeg's AVColorRange.
_BT709, _RGB = 1, 0
_LIMITED_RANGE, _FULL_RANGE = 1, 2
_MUXER = {
    "fflags": "+bitexact",  # no random numbers in the file: the same frames give the same file
    # Microseconds. When the sound ends early, frames wait in memory for so long for more of it.
    "max_interleave_delta": "1000000",
}


class VideoWriter:
    """A video file in the making, used as a context manager.

    Timestamps are exact in MP4; Matroska and WebM count milliseconds and round each frame's time
    to the nearest one. Memory does not grow with the number of frames.

    Args:
        path: the file; replaced if it exists, untouched unless all goes well.
        encoding: how it is encoded.
        fps: frames per second, above 0.
        audio: heard from the first frame on, cut to the duration of the frames.
        tags: metadata, text by name.
    Raises:
        InputError: fps or audio that no file can hold.
        GeometryError: from `add` or at the end: no frames, frames of different sizes, or an odd
            side where the format cannot store it.
        OutputError: at any point: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        encoding: Encoding,
        fps: Fraction | float,
        audio: Audio | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self.frames = self._packets = 0
        self._path, self._encoding, self._format = path, encoding, encoding.format
        self._fps, self._audio = exact_rate(fps), audio
        if audio is not None:
            check_sound(audio)
        # Not made of the final name, which may be as long as names can be.
        self._temporary = path.with_name(f".{uuid4().hex[:16]}.part")
        self._tags = dict(tags or {})
        self._container: Any = None
        self._stream: Any = None
        self._sound: Soundtrack | None = None
        self._size = (0, 0)
        self._reformatter = VideoReformatter()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def add(self, pixels: np.ndarray) -> None:
        """Write one frame, [H, W, 3] uint8, and the sound that belongs to it."""
        import av

        if self._encoding.odd_size == "crop" and self._format.needs_even_sides:
            pixels = pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2]
        height, width = pixels.shape[:2]
        if not self.frames:
            self._check_size(width, height)
            with self._explained():
                self._open(width, height)
        elif (width, height) != self._size:
            raise GeometryError(
                what=f"Frame {self.frames} is {width}x{height}, those before it are "
                f"{self._size[0]}x{self._size[1]}.",
                why="All frames of a video have one size.",
                fix="Resize the frames to one size.",
            )
        with self._explained():
            # The copy that the encoder keeps is made by the conversion.
            rgb = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24")
            frame = self._reformatter.reformat(rgb, format=self._format.pixels, **self._colours())
            frame.pts, frame.time_base = self.frames, 1 / self._fps
            self.frames += 1
            self._encode(frame)

    def report(self, reporter: Reporter) -> None:
        """Note what was changed in the sound, if anything."""
        if self._sound:
            self._sound.report(reporter)

    def _open(self, width: int, height: int) -> None:
        import av

        # Else SVT-AV1 tells its settings on the terminal.
        os.environ.setdefault("SVT_LOG", "1")
        options = {**self._format.container_options, **_MUXER}
        container = av.open(
            str(self._temporary), "w", format=self._format.container, options=options
        )
        self._container = container
        container.metadata.update(self._tags)
        stream = container.add_stream(
            self._format.encoder, rate=self._fps, options=self._encoding.options
        )
        stream.width, stream.height = self._size = width, height
        context = stream.codec_context
        context.pix_fmt, context.time_base = self._format.pixels, 1 / self._fps
        # Untagged, players guess: BT.601 for small pictures, and the colours shift.
        context.colorspace = _RGB if self._format.is_rgb else _BT709
        context.color_primaries = context.color_trc = _BT709
        context.color_range = _FULL_RANGE if self._format.is_rgb else _LIMITED_RANGE
        self._stream = stream
        if self._audio is not None and self._audio.samples.shape[1]:
            self._sound = Soundtrack(container, self._format.sound, self._audio, self._fps)

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
            self._packets += 1
            # With what comes out, not what goes in: encoders hold back frames, and the file's two
            # streams would drift apart by as much.
            if self._sound:
                self._sound.advance(self._packets)

    def _colours(self) -> dict[str, Any]:
        from av.video.reformatter import ColorRange, Colorspace

        if self._format.is_rgb:
            return {}
        return {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}

    def _finish(self) -> None:
        if not self.frames:
            raise GeometryError(
                what="There are no frames to save.",
                why="A video has one at least.",
                fix="Connect images, or look why the stage before made none.",
            )
        with self._explained():
            self._encode(None)
            if self._sound:
                self._sound.advance(self.frames)
                self._sound.finish()
            self._container.close()
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())  # some disks tell only now that they are full
            self._temporary.replace(self._path)
        with suppress(OSError):  # so that the new name, too, outlives a power cut; not on Windows
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _discard(self) -> None:
        import av

        # If something fails here there is a better error already. Without its name a file is not
        # finished: to close an MP4 would move all of it to make room for the index.
        with suppress(OSError):
            self._temporary.unlink()
        if self._container is not None:
            with suppress(OSError, av.FFmpegError):
                self._container.close()
        with suppress(OSError):
            self._temporary.unlink()  # Windows holds on to open files

    def _check_size(self, width: int, height: int) -> None:
        if not width or not height:
            raise GeometryError(
                what="The frames are one pixel wide or high.",
                why="Nothing is left of them when odd sides lose a pixel.",
                fix="Choose a lossless format, which keeps every size.",
            )
        if self._format.needs_even_sides and (width % 2 or height % 2):
            raise GeometryError(
                what=f"The frames are {width}x{height}.",
                why=f"{self._format.name!r} stores colour at half the size, so both sides must be "
                "even.",
                fix=f"Resize or crop to {width // 2 * 2}x{height // 2 * 2}, or choose a lossless "
                "format.",
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import av

        try:
            yield
        except OSError as error:
            raise OutputError(
                what=f"Writing {str(self._path)!r} failed ({error.strerror or error}).",
                why="The disk may be full or the folder read-only. Nothing was left behind.",
                fix="Free some space or choose another folder, then run again.",
            ) from error
        except av.FFmpegError as error:
            width, height = self._size
            raise OutputError(
                what=f"{self._format.encoder} refused a video of {width}x{height} at "
                f"{float(self._fps):g} fps ({error}).",
                why="Every encoder has limits of size and rate. Nothing was left behind.",
                fix="Choose another format, size or fps.",
            ) from error


def exact_rate(fps: Fraction | float) -> Fraction:
    """Frames per second as the fraction that is meant: 29.97002997 is 30000/1001.

    Raises:
        InputError: not above 0, or beyond what files count in.
    """
    if not 1 / FINEST_RATE <= fps <= FINEST_RATE:
        raise InputError(
            what=f"fps is {fps}.",
            why=f"A video plays at a rate above 0, and of {FINEST_RATE} at most.",
            fix="Use for example 16.",
        )
    return Fraction(fps).limit_denominator(FINEST_RATE)
