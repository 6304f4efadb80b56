"""Which frames are sampled together when a video is longer than one clip. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import GeometryError, InputError
from .geometry import TEMPORAL_STRIDE

CARRY_CHOICES = (1, 5)
"""Frames that a clip may take over: what Wan Animate was trained with."""


@dataclass(frozen=True)
class Clip:
    """One sampling window."""

    number: int
    """0 for the first."""
    sources: tuple[int, ...]
    """For each of its frames the frame of the video that it shows; behind the end of the video
    they run back and forth."""
    carried: int
    """Leading frames that are known: the last ones of the clip before. 0 begins from nothing."""
    kept: int
    """Frames it adds to the result, right behind the carried ones; the rest is padding."""


def plan_clips(frames: int, clip_len: int, carry: int, continues: bool = False) -> tuple[Clip, ...]:
    """Cut a video into overlapping clips, so that every frame is made exactly once and in order.

    Args:
        frames: of the video, 1 or more.
        clip_len: frames of each clip, 4n+1.
        carry: frames that each clip after the first takes over from the one before, 1 or 5.
        continues: the first clip too has its first `carry` frames given, as those of an earlier
            video; they are not part of the result.
    Returns:
        At least one clip. Kept frames of all: `frames`, or `frames` - `carry` if it continues.
    Raises:
        GeometryError: clip_len is not 4n+1 or not above carry, or nothing is left to make.
        InputError: another carry.
    Source: Wan2.2 wan/animate.py, get_valid_len and generate; a video no longer than the carried
        frames gets one clip, where the reference has none.
    """
    check_clip(clip_len, carry)
    if frames < 1 or (continues and frames <= carry):
        raise GeometryError(
            what=f"The driving video has {frames} frame{'s' if frames != 1 else ''}"
            + (f", of which {carry} are given." if continues else "."),
            why="No frame is left to be made.",
            fix="Use a longer driving video.",
        )
    step = clip_len - carry
    count = max(1, -(-(frames - carry) // step))
    clips = []
    for number in range(count):
        start = number * step
        carried = carry if number or continues else 0
        clips.append(
            Clip(
                number,
                tuple(reflect(start + place, frames) for place in range(clip_len)),
                carried,
                min(frames - start, clip_len) - carried,
            )
        )
    return tuple(clips)


def check_clip(clip_len: int, carry: int) -> None:
    """Refuse clip lengths that the model or the plan cannot work with.

    Raises:
        GeometryError: clip_len is not 4n+1, or not above carry.
        InputError: carry is neither 1 nor 5.
    """
    if carry not in CARRY_CHOICES:
        raise InputError(
            what=f"refert_num is {carry}.",
            why="The model was trained with 1 or 5 frames taken over from the clip before.",
            fix="Use 1, or 5 for a smoother passage from clip to clip.",
        )
    if clip_len < 1 or clip_len % TEMPORAL_STRIDE != 1:
        lower = max(5, (clip_len - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE + 1)
        raise GeometryError(
            what=f"clip_len is {clip_len}.",
            why="Wan works on 4n+1 frames.",
            fix=f"Use {lower} or {lower + TEMPORAL_STRIDE}.",
        )
    if clip_len <= carry:
        raise GeometryError(
            what=f"clip_len is {clip_len}, and refert_num is {carry}.",
            why="Every frame of a clip would be taken over, and none made.",
            fix=f"Use a clip_len of {carry + TEMPORAL_STRIDE} or more; 77 is usual.",
        )


def reflect(index: int, length: int) -> int:
    """Walk back and forth: 0 1 2 1 0 1 ... for three frames, 0 0 0 ... for one.

    Args:
        index: 0 or more.
        length: of what is walked, 1 or more.
    Source: Wan2.2 wan/animate.py, inputs_padding.
    """
    if length == 1:
        return 0
    place = index % (2 * (length - 1))
    return min(place, 2 * (length - 1) - place)
