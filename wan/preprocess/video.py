"""The driving video: which of its frames are used, and these frames with their sound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from ..errors import GeometryError, InputError
from ..media.frames import ToPixels
from ..media.picture import read_picture
from ..media.resize import FrameFit, Resize
from ..media.sound import Audio, read_sound
from ..media.video import FINEST_RATE, STILL_FPS, open_video, unusable
from ..progress import Reporter, Silent, phase

_OWN_RATE = -1
# Without it 29 frames at 25 fps would be 28 at 25 fps: 29 / 25 * 25 is 28.999999999999996.
_EPSILON = 1e-6


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
    return Fraction(wanted).limit_denominator(FINEST_RATE)


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
        MissingFileError, InputError: see `open_video` and `plan_frames`; offset or max_frames out
            of range; over a tenth of the frames undecodable.
        GeometryError: the size changes between frames.
    """
    path, reporter = Path(path), reporter or Silent()
    sampling_fps(STILL_FPS, fps)  # a wrong rate is told before the file is read
    with open_video(path, reporter) as video:
        facts, rate = video.facts, sampling_fps(video.facts.fps, fps)
        if facts.is_still:
            reporter.note(f"{path.name!r} is a picture: it is used as a video of one frame.")
            picture = read_picture(path, "driving_video")[None]
            chosen = {"offset": offset, "max_frames": max_frames, "reporter": reporter}
            return select_frames(picture, rate, rate, resize, **chosen)
        indices = _window(plan_frames(facts.frames, facts.fps, fps), offset, max_frames)
        fit = FrameFit(resize, facts.width, facts.height)
        frames = _collect(video.frames(indices, reporter), indices, fit, reporter)
    sound = None
    if audio and facts.has_audio:
        begin, length = facts.start + float(offset / rate), float(len(indices) / rate)
        sound = read_sound(path, begin, length, reporter)
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
    pixels, reporter = ToPixels(), reporter or Silent()
    source = ((i, pixels(frames[i])) for i in sorted(set(indices)))
    selected = _collect(source, indices, FrameFit(resize, *size), reporter)
    pixels.report(reporter)
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
            picture = fitted = None  # else the next gets fresh memory, which is slow
        lost += len(indices) - done
        if lost > len(indices) // 10:
            raise unusable(f"{lost} of the {len(indices)} selected frames cannot be decoded")
        if lost:
            reporter.note(f"{lost} frames cannot be decoded; a neighbour is shown instead.")
            frames[done:] = frames[done - 1]
    return frames
