"""Video files: what they hold, and the frames that are wanted of them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, MissingFileError
from ..progress import Reporter, Silent
from .picture import read_picture
from .turn import quarter_turn, turn_upright

FINEST_RATE = 100_000
"""Largest denominator of a frame rate: a float of 29.97 means 2997/100."""
STILL_FPS = Fraction(30)  # a picture has no rate of its own; this is the apps' default
_KEPT_BYTES = 31 << 20
"""Once glibc has freed a block of this size, it keeps smaller ones for the next frame instead of
giving them back to the system; to get them again takes a fifth of the time of reading."""
_PLAYLISTS = {"hls", "dash", "concat", "concatf", "imf"}  # they name other files to read


@dataclass(frozen=True)
class VideoFacts:
    """What a file holds.

    `width` and `height` are those of the upright picture, got from the stored one by `turn` (see
    `quarter_turn`); `duration` is in seconds. A picture file (`is_still`) is a video of one frame.
    `start` is the second at which the first frame is shown, `time_stamps` are those of all frames
    in the file's unit, rising; empty if missing or ambiguous.
    """

    width: int
    height: int
    fps: Fraction
    frames: int
    duration: float
    has_audio: bool
    is_still: bool = False
    turn: tuple[int, int, int, int] = (1, 0, 0, 1)
    start: float = 0.0
    time_stamps: tuple[int, ...] = ()

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which stored pictures are turned: 0, 90, 180 or 270."""
        return {(1, 0): 0, (0, 1): 90, (-1, 0): 180, (0, -1): 270}[self.turn[:2]]


def probe_video(path: str | Path, reporter: Reporter | None = None) -> VideoFacts:
    """What a file holds; see `open_video`."""
    with open_video(path, reporter) as video:
        return video.facts


class VideoFile:
    """An open video: what it holds, and its frames, which are decoded as they are asked for."""

    facts: VideoFacts

    def __init__(
        self, facts: VideoFacts, container: Any, stream: Any, start: Iterator[Any]
    ) -> None:
        self.facts = facts
        self._container, self._stream, self._start = container, stream, start

    def frames(
        self, indices: tuple[int, ...], reporter: Reporter
    ) -> Generator[tuple[int, np.ndarray], None, None]:
        """The wanted frames with their positions, as upright [H, W, 3] that live until the next.

        Can be asked for once. Damaged frames are left out.

        Args:
            indices: positions in the file, rising.
            reporter: asked often whether the user cancelled.
        """
        from av.video.reformatter import VideoReformatter

        stamps = self.facts.time_stamps
        position_of = {stamp: position for position, stamp in enumerate(stamps)}
        wanted, position, reformatter = set(indices), -1, VideoReformatter()
        torch.empty(_KEPT_BYTES, dtype=torch.uint8)
        source = self._start
        if stamps and indices[0]:  # to the key frame before it
            self._container.seek(stamps[indices[0]], stream=self._stream)
            source = decoded(self._container, self._stream)
        for frame in source:
            reporter.check_cancelled()
            position = position_of.get(frame.pts, position + 1)
            if position in wanted:
                # The turn is the file's: asking each frame would keep it alive, in a cycle.
                picture = _pixels(reformatter.reformat(frame, format="rgb24"))
                yield position, turn_upright(picture, self.facts.turn)


@contextmanager
def open_video(path: str | Path, reporter: Reporter | None = None) -> Iterator[VideoFile]:
    """A file with what it holds; it is read through once, but only its first frames are decoded.

    Frames are counted as packets that are shown. Where duration times claimed rate is more than a
    tenth off that, the rate becomes frames / duration. (The reference corrects the frames instead:
    it selects as many, but from the first part of the file, or from beyond its end.)

    Args:
        path: any video or picture that PyAV or Pillow opens.
        reporter: asked often whether the user cancelled.
    Raises:
        MissingFileError: no such file.
        InputError: unreadable, empty, or without video.
    """
    path, reporter = Path(path), reporter or Silent()
    with ExitStack() as files:
        container, stream = files.enter_context(opened(path))
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            height, width = read_picture(path, "driving_video").shape[:2]
            facts = VideoFacts(width, height, STILL_FPS, 1, float(1 / STILL_FPS), False, True)
            yield VideoFile(facts, container, stream, iter(()))
            return
        stream.thread_type = "AUTO"
        shown = []
        for packet in container.demux(stream):
            reporter.check_cancelled()
            if packet.size and not packet.is_discard:
                shown.append((packet.pts, packet.duration))
        frames = _rewound(container, stream, [pts for pts, _ in shown])
        if frames is None:
            container, stream = files.enter_context(opened(path))
            stream.thread_type = "AUTO"
            frames = decoded(container, stream)
        first = next(frames, None)
        if first is None or not shown:
            raise unusable(f"{path.name!r} holds no frames that can be decoded")
        facts = _gather(container, stream, shown, first)
        yield VideoFile(facts, container, stream, chain([first], frames))


def _rewound(container: Any, stream: Any, stamps: list[int | None]) -> Iterator[Any] | None:
    """The frames from the first one on, or None where a file must be opened anew for them.

    Opening again costs as much as decoding several frames.
    """
    import av

    times = [stamp for stamp in stamps if stamp is not None]
    if len(times) < max(1, len(stamps)):
        return None
    try:
        container.seek(min(times), stream=stream)
    except av.FFmpegError:
        return None
    frames = decoded(container, stream)
    first = next(frames, None)
    return chain([first], frames) if first is not None and first.pts == min(times) else None


def _gather(
    container: Any, stream: Any, shown: list[tuple[int | None, int | None]], first: Any
) -> VideoFacts:
    """The facts, from time stamp and duration of each packet that is shown and the first frame."""
    has_audio = bool(container.streams.audio)
    rate = Fraction(stream.average_rate or stream.guessed_rate or STILL_FPS)
    turn = quarter_turn(first.side_data.get("DISPLAYMATRIX"))
    width, height = (first.height, first.width) if turn[1] else (first.width, first.height)
    unit = stream.time_base
    start, duration = 0.0, float(len(shown) / rate)
    stamps = {pts for pts, _ in shown}
    if None in stamps or first.pts not in stamps or len(stamps) < len(shown):
        stamps = set()
    else:
        begin, (last, length) = min(stamps), max(shown)
        start = float(begin * unit)
        duration = float((last - begin + (length or 1 / (rate * unit))) * unit)
        # 0.1: Wan2.2 preprocess/process_pipepline.py
        if abs(len(shown) - int(duration * float(rate) + 0.5)) > 0.1 * len(shown):
            rate = Fraction(len(shown) / duration).limit_denominator(FINEST_RATE)
    facts = VideoFacts(width, height, rate, len(shown), duration, has_audio)
    return replace(facts, turn=turn, start=start, time_stamps=tuple(sorted(stamps)))


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file and its video stream."""
    import av

    if not path.is_file():
        raise MissingFileError(
            what=f"The video is {str(path)!r}, and there is no such file.",
            why="Its frames are needed.",
            fix="Check the path; quote it if it holds spaces.",
        )
    try:
        with av.open(str(path.resolve()), metadata_errors="replace") as container:
            cover = av.stream.Disposition.attached_pic
            videos = [s for s in container.streams.video if not s.disposition & cover]
            if not videos or _PLAYLISTS & set(container.format.name.split(",")):
                raise unusable(f"{path.name!r} holds no video")
            yield container, videos[0]
    except av.FFmpegError as error:
        raise unusable(f"{path.name!r} cannot be read as a video ({error.strerror})") from None


def unusable(what: str) -> InputError:
    """The error for a file whose frames cannot be had; `what` says why, without a full stop."""
    return InputError(
        what=f"{what}.",
        why="The motion is taken from the frames of the driving video.",
        fix="Check that it plays in a video player, convert it to MP4, or choose another one.",
    )


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream as PyAV gives them; damaged packets are passed over."""
    import av

    for packet in container.demux(stream):
        with suppress(av.error.InvalidDataError):  # what follows a damaged packet may be good
            yield from packet.decode()


def _pixels(rgb: Any) -> np.ndarray:
    plane, shape = rgb.planes[0], (rgb.height, rgb.width, 3)
    return np.ndarray(shape, np.uint8, plane, strides=(plane.line_size, 3, 1))  # without a copy
