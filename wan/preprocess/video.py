"""The driving video: which of its frames are used, and these frames with their sound."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..encode.picture import read_picture
from ..errors import GeometryError, InputError, MissingFileError
from ..progress import Reporter, Silent, phase
from .resize import FrameFit, Resize, quarter_turn, to_pixels, turn_upright

STILL_FPS = Fraction(30)  # a picture has no rate of its own; this is the apps' default
_OWN_RATE = -1
# Without it 29 frames at 25 fps would be 28 at 25 fps: 29 / 25 * 25 is 28.999999999999996.
_EPSILON = 1e-6
_SOUND_GAP_SECONDS = 0.1  # smaller jumps are times rounded to milliseconds
_PLAYLISTS = {"hls", "dash", "concat", "concatf", "imf"}  # they name other files to read


@dataclass(frozen=True)
class Audio:
    """Sound: `samples` [channels, n] float32 in -1..1, `rate` of them per second."""

    samples: Tensor
    rate: int


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


@dataclass(frozen=True)
class DrivingVideo:
    """The selected frames of a video.

    `frames` are [T, H, W, 3] uint8, upright, RGB, at the working size; the result plays at `fps`.
    Of the source: its rate, (width, height) before resizing, number of frames, and `indices`, for
    each of `frames` its position there from 0 on. `audio` is of the same span of time, if any.
    """

    frames: Tensor
    fps: Fraction
    source_fps: Fraction
    source_size: tuple[int, int]
    source_frames: int
    indices: tuple[int, ...]
    audio: Audio | None


def sampling_fps(source_fps: Fraction | float, fps: Fraction | float) -> Fraction:
    """The rate at which a source is sampled: `fps`, or its own if that is -1.

    Raises:
        InputError: fps is neither -1 nor above 0, or source_fps is not above 0.
    """
    for name, value in (("fps", fps), ("The video's own fps", source_fps)):
        if not (0 < value < math.inf or (name == "fps" and value == _OWN_RATE)):
            raise InputError(
                what=f"{name} is {value}.",
                why="Frames are taken at a rate above 0, or all as they are if fps is -1.",
                fix="Use 30, or -1 for the video's own rate.",
            )
    wanted = source_fps if fps == _OWN_RATE else fps
    return Fraction(wanted).limit_denominator(100_000)  # a float of 29.97 means 2997/100


def plan_frames(count: int, source_fps: Fraction | float, fps: Fraction | float) -> tuple[int, ...]:
    """Which frames of a source show its motion at another rate in the same time.

    Args:
        count: frames of the source.
        source_fps: its frames per second, above 0.
        fps: wanted frames per second, or -1 for the source's.
    Returns:
        Positions in the source, 0 .. count - 1, never falling, at least one. A higher rate
        repeats frames, a lower one leaves some out, the same one keeps all.
    Raises:
        InputError: no frames, or a rate out of range.
    Source: Wan2.2 preprocess/utils.py, get_frame_indices; epsilon and at least one frame are ours.
    """
    rate = sampling_fps(source_fps, fps)
    if count < 1:
        raise InputError(
            what=f"The video has {count} frames.",
            why="There is nothing to take a motion from.",
            fix="Choose another video.",
        )
    if rate == sampling_fps(source_fps, _OWN_RATE):
        return tuple(range(count))
    # In double precision and this order, as the reference: it decides where halves are rounded.
    wanted, source = float(rate), float(source_fps)
    length = max(1, math.floor(count * wanted / source + _EPSILON))
    positions = np.round(np.arange(length) / wanted * source).astype(np.int64)
    return tuple(positions.clip(0, count - 1).tolist())


def probe_video(path: str | Path, reporter: Reporter | None = None) -> VideoFacts:
    """What a file holds; it is read through once, but only its first frame is decoded.

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
    with _opened(path) as (container, stream):
        if container.format.name.endswith("_pipe") or container.format.name == "image2":
            height, width = read_picture(path, "driving_video").shape[:2]
            return VideoFacts(width, height, STILL_FPS, 1, float(1 / STILL_FPS), False, True)
        has_audio = bool(container.streams.audio)
        rate = Fraction(stream.average_rate or stream.guessed_rate or STILL_FPS)
        shown = []
        for packet in container.demux(stream):
            reporter.check_cancelled()
            if packet.size and not packet.is_discard:
                shown.append((packet.pts, packet.duration))
    with _opened(path) as (container, stream):
        first = next(_decoded(container, stream), None)
        if first is None or not shown:
            raise _unusable(f"{path.name!r} holds no frames that can be decoded")
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
            rate = sampling_fps(len(shown) / duration, _OWN_RATE)
    facts = VideoFacts(width, height, rate, len(shown), duration, has_audio)
    return replace(facts, turn=turn, start=start, time_stamps=tuple(sorted(stamps)))


def read_video(
    path: str | Path,
    fps: Fraction | float,
    resize: Resize = None,
    *,
    offset: int = 0,
    max_frames: int | None = None,
    audio: bool = True,
    reporter: Reporter | None = None,
) -> DrivingVideo:
    """Read the selected frames of a file, each resized as soon as it is decoded.

    A long video takes no more memory than its result. Frames are counted, not timed: a variable
    rate is sampled as if frames were evenly spaced, as in the reference. Pixels count as square.

    Args:
        path: any video that PyAV opens, or a picture, which is a video of one frame.
        fps: frames per second at which to sample, or -1 for all frames at the source's rate.
        resize: see `Resize`.
        offset: selected frames to leave out at the start, 0 or more.
        max_frames: how many selected frames to take at most, 1 or more; None for all.
        audio: read the sound too.
        reporter: told of each frame; notes tell of much memory and undecodable parts.
    Raises:
        MissingFileError, InputError: see `probe_video` and `plan_frames`; offset or max_frames out
            of range; over a tenth of the frames undecodable.
        GeometryError: the size changes between frames.
    """
    path, reporter = Path(path), reporter or Silent()
    sampling_fps(STILL_FPS, fps)  # a wrong rate is told before the file is read
    facts = probe_video(path, reporter)
    rate = sampling_fps(facts.fps, fps)
    if facts.is_still:
        reporter.note(f"{path.name!r} is a picture: it is used as a video of one frame.")
        picture = read_picture(path, "driving_video")[None]
        chosen = {"offset": offset, "max_frames": max_frames, "reporter": reporter}
        return select_frames(picture, rate, rate, resize, **chosen)
    indices = _window(plan_frames(facts.frames, facts.fps, fps), offset, max_frames)
    fit = FrameFit(resize, facts.width, facts.height)
    with closing(_read_frames(path, facts, indices, reporter)) as source:
        frames = _collect(source, indices, fit, reporter)
    sound = None
    if audio and facts.has_audio:
        begin, length = facts.start + float(offset / rate), float(len(indices) / rate)
        sound = _read_audio(path, begin, length, reporter)
    size = facts.width, facts.height
    return DrivingVideo(frames, rate, facts.fps, size, facts.frames, indices, sound)


def select_frames(
    frames: Tensor,
    source_fps: Fraction | float,
    fps: Fraction | float,
    resize: Resize = None,
    *,
    offset: int = 0,
    max_frames: int | None = None,
    audio: Audio | None = None,
    reporter: Reporter | None = None,
) -> DrivingVideo:
    """Do what `read_video` does with frames that are in memory already.

    Args:
        frames: [T, H, W, 3 or more], floating point in 0..1 or uint8, not changed; channels beyond
            the third are dropped.
        source_fps: frames per second of `frames`, above 0.
        fps, resize, offset, max_frames, reporter: see `read_video`.
        audio: the sound of `frames`; begins with them.
    Raises:
        GeometryError: `frames` are of another shape.
        InputError: a rate, offset or max_frames out of range.
    """
    if frames.ndim != 4 or frames.shape[3] < 3 or 0 in frames.shape[1:]:
        raise GeometryError(
            what=f"The frames have the shape {list(frames.shape)}.",
            why="A video is [frames, height, width, colours] with three colours.",
            fix="Connect images in colour.",
        )
    own, rate = sampling_fps(source_fps, _OWN_RATE), sampling_fps(source_fps, fps)
    indices = _window(plan_frames(len(frames), own, fps), offset, max_frames)
    size = frames.shape[2], frames.shape[1]
    source = ((i, to_pixels(frames[i])) for i in sorted(set(indices)))
    selected = _collect(source, indices, FrameFit(resize, *size), reporter or Silent())
    if audio is not None:
        begin, length = (round(n / rate * audio.rate) for n in (offset, len(indices)))
        audio = Audio(audio.samples[:, begin : begin + length].float(), audio.rate)
    return DrivingVideo(selected, rate, own, size, len(frames), indices, audio)


def _window(planned: tuple[int, ...], offset: int, max_frames: int | None) -> tuple[int, ...]:
    if not 0 <= offset < len(planned) or (max_frames is not None and max_frames < 1):
        raise InputError(
            what=f"offset is {offset}, max_frames {max_frames}; there are {len(planned)} frames.",
            why="At least one frame must remain.",
            fix=f"Use an offset of 0 to {len(planned) - 1}, and max_frames of 1 or more.",
        )
    return planned[offset:][:max_frames]


def _collect(
    source: Iterator[tuple[int, np.ndarray]],
    indices: tuple[int, ...],
    fit: FrameFit,
    reporter: Reporter,
) -> Tensor:
    """Copy each picture, which comes with its position, to wherever `indices` wants it."""
    frames = fit.allocate(len(indices), reporter)
    done = lost = 0
    with phase(reporter, "read video", len(indices)) as advance:
        for position, picture in source:
            fitted = fit(picture)
            # Where a frame did not come, the next one stands in, so that the timing stays.
            while done < len(indices) and indices[done] <= position:
                frames[done].numpy()[:] = fitted
                lost += indices[done] != position
                done += 1
                advance()
            if done == len(indices):
                break
            del (
                picture,
                fitted,
            )  # else the next gets fresh memory, which is slow
        lost += len(indices) - done
        if lost > len(indices) // 10:
            raise _unusable(f"{lost} of the {len(indices)} selected frames cannot be decoded")
        if lost:
            reporter.note(f"{lost} frames cannot be decoded; a neighbour is shown instead.")
            frames[done:] = frames[done - 1]
    return frames


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file and its video stream."""
    import av

    if not path.is_file():
        raise MissingFileError(
            what=f"driving_video is {str(path)!r}, and there is no such file.",
            why="The motion is taken from this video.",
            fix="Check the path; quote it if it holds spaces.",
        )
    try:
        with av.open(str(path.resolve()), metadata_errors="replace") as container:
            cover = av.stream.Disposition.attached_pic
            videos = [s for s in container.streams.video if not s.disposition & cover]
            if not videos or _PLAYLISTS & set(container.format.name.split(",")):
                raise _unusable(f"{path.name!r} holds no video")
            yield container, videos[0]
    except av.FFmpegError as error:
        raise _unusable(f"{path.name!r} cannot be read as a video ({error.strerror})") from None


def _unusable(what: str) -> InputError:
    return InputError(
        what=f"{what}.",
        why="The motion is taken from the frames of the driving video.",
        fix="Check that it plays in a video player, convert it to MP4, or choose another one.",
    )


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    import av

    for packet in container.demux(stream):
        with suppress(av.error.InvalidDataError):  # what follows a damaged packet may be good
            yield from packet.decode()


def _read_frames(
    path: Path, facts: VideoFacts, indices: tuple[int, ...], reporter: Reporter
) -> Generator[tuple[int, np.ndarray], None, None]:
    """The wanted frames with their positions, as upright [H, W, 3] that live until the next."""
    from av.video.reformatter import VideoReformatter

    position_of = {stamp: position for position, stamp in enumerate(facts.time_stamps)}
    wanted, position, reformatter = set(indices), -1, VideoReformatter()
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        if position_of and indices[0]:  # to the key frame before it
            container.seek(facts.time_stamps[indices[0]], stream=stream)
        for frame in _decoded(container, stream):
            reporter.check_cancelled()
            position = position_of.get(frame.pts, position + 1)
            if position in wanted:
                # The turn is the file's: asking each frame would keep it alive, in a cycle.
                picture = _pixels(reformatter.reformat(frame, format="rgb24"))
                yield position, turn_upright(picture, facts.turn)


def _pixels(rgb: Any) -> np.ndarray:
    plane, shape = rgb.planes[0], (rgb.height, rgb.width, 3)
    return np.ndarray(shape, np.uint8, plane, strides=(plane.line_size, 3, 1))  # without a copy


def _read_audio(path: Path, begin: float, length: float, reporter: Reporter) -> Audio | None:
    """The sound from `begin` on the file's clock, `length` seconds or as far as it goes."""
    import av

    samples, rate, at, end = torch.empty(0, 0), 0, None, 0
    resampler = av.AudioResampler(format="fltp")
    try:
        with _opened(path) as (container, _):
            for frame in _decoded(container, container.streams.audio[0]):
                reporter.check_cancelled()
                for part in resampler.resample(frame):
                    block, rate = torch.from_numpy(part.to_ndarray()), part.sample_rate
                    due = at or 0 if frame.time is None else round((frame.time - begin) * rate)
                    if at is None:
                        samples = torch.zeros(len(block), round(length * rate))
                    if at is None or abs(due - at) > _SOUND_GAP_SECONDS * rate:
                        at = due
                    kept = block[:, max(0, -at) : max(0, samples.shape[1] - at)]
                    samples[:, max(0, at) :][:, : kept.shape[1]] = kept
                    at += block.shape[1]
                    end = max(end, min(at, samples.shape[1]))
                if at is not None and at >= samples.shape[1]:
                    break
    except (InputError, ValueError):  # sound is not worth the loss of the run
        reporter.note(f"The sound of {path.name!r} cannot be read; it is left out.")
        return None
    return Audio(samples[:, :end], rate) if end else None
