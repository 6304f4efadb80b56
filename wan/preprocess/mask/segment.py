"""The mask of the person to replace: where to point at them, and what to do without a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import GeometryError, InputError
from ...progress import Reporter, phase
from ..pose.track import (
    FACE_POINTS,
    HAND_POINTS,
    Array,
    Joint,
    PoseTrack,
    describe_misses,
    to_pixels,
)

CHUNK_FRAMES = 400  # Wan2.2 process_pipepline.py
_KEY_FRAMES = 4  # Wan2.2 process_pipepline.py, get_mask
POINT_SCORE = 0.3
"""A joint below it is not pointed at. Upstream points at all of them, also outside of the frame,
and so selects the background where the legs are not in the picture."""
PROMPT_JOINTS = (
    Joint.NOSE,
    Joint.NECK,
    Joint.RIGHT_SHOULDER,
    Joint.LEFT_SHOULDER,
    Joint.RIGHT_HIP,
    Joint.LEFT_HIP,
    Joint.RIGHT_ANKLE,
    Joint.LEFT_ANKLE,
)


class Segmenter(Protocol):
    """Finds one person in every frame."""

    note: str | None
    """What the user has to know about its masks."""

    def segment(self, frames: Array, pose: PoseTrack, advance: Callable[[], None]) -> Array:
        """Masks of the person whose pose this is.

        Args:
            frames: [T, H, W, 3] uint8.
            pose: T frames, measured in these.
            advance: to be called once per frame; may raise to cancel.
        Returns:
            [T, H, W] uint8, 1 = the person.
        """
        ...


@dataclass(frozen=True)
class Segmentation:
    """Where the person is, frame by frame."""

    masks: Tensor
    """[T, H, W] uint8, 1 = the person to replace."""
    misses: tuple[int, ...]
    """Frames without any mask; they stay as they are in the driving video."""


def segment_person(
    frames: Array | Tensor, pose: PoseTrack, segmenter: Segmenter, reporter: Reporter
) -> Segmentation:
    """Mask the person of the pose track in every frame.

    Args:
        frames: [T, H, W, 3] uint8, the driving video in its working size.
        pose: of the chosen person in these frames; or a `track_from_box`.
        segmenter: `Sam2`, or `GrabCut` where there are no weights.
        reporter: told of each frame; gets one line if frames have no mask, and the segmenter's own.
    Returns:
        Masks and the frames that have none.
    Raises:
        InputError: no person in any frame.
        GeometryError: frames and poses do not belong together.
    """
    pixels = frames if isinstance(frames, np.ndarray) else frames.cpu().numpy()
    _check(pixels, pose)
    if len(pose.misses) == len(pose):
        raise _nobody("The pose model found no person in any frame of the driving video.")
    if segmenter.note:
        reporter.note(segmenter.note)
    with phase(reporter, "segment person", len(pixels)) as advance:
        masks = segmenter.segment(pixels, pose, advance)
    misses = tuple(int(frame) for frame in np.flatnonzero(~masks.any(axis=(1, 2))))
    if len(misses) == len(masks):
        raise _nobody("The person could not be segmented in any frame of the driving video.")
    missed = describe_misses({"mask": misses}, len(masks))
    if missed:
        reporter.note(f"{missed} These frames stay as in the driving video.")
    return Segmentation(torch.from_numpy(masks), misses)


def track_from_box(box: Sequence[float], frames: int, width: int, height: int) -> PoseTrack:
    """A track that knows only where the person is in the first frame, for `GrabCut`.

    Args:
        box: x0, y0, x1, y1 in pixels of the first frame.
        frames: of the video.
        width, height: of the video, pixels.
    Raises:
        InputError: the box is empty or outside of the frame.
    """
    x0, y0, x1, y1 = box
    if not (max(x0, 0) < min(x1, width) and max(y0, 0) < min(y1, height)):
        raise InputError(
            what=f"The box of the person is {x0:g}, {y0:g}, {x1:g}, {y1:g}.",
            why=f"It must be left, top, right and bottom in pixels of a {width}x{height} frame.",
            fix=f"Use for example {width // 4}, {height // 10}, {3 * width // 4}, {height}.",
        )
    boxes = np.full((frames, 5), -1, np.float32)
    boxes[0] = (*box, 1)
    return PoseTrack(
        width,
        height,
        body=np.zeros((frames, len(Joint), 3), np.float32),
        left_hand=np.zeros((frames, HAND_POINTS, 3), np.float32),
        right_hand=np.zeros((frames, HAND_POINTS, 3), np.float32),
        face=np.zeros((frames, FACE_POINTS, 3), np.float32),
        boxes=boxes,
        misses=tuple(range(1, frames)),
    )


def plan_chunks(frames: int) -> list[range]:
    """Cut a video into runs of at most 400 frames, which are segmented one by one."""
    starts = range(0, frames, CHUNK_FRAMES)
    return [range(start, min(start + CHUNK_FRAMES, frames)) for start in starts]


def key_frames(length: int) -> list[int]:
    """Frames of one chunk on which the person is pointed at: five, or four where it divides.

    Args:
        length: frames of the chunk, 1 or more.
    Source: Wan2.2 process_pipepline.py, get_mask.
    """
    wanted = _KEY_FRAMES if length > _KEY_FRAMES else 1
    return list(range(0, length, length // wanted))


def prompt_points(pose: PoseTrack, frame: int) -> Array:
    """Places on the person in one frame: head, trunk and ankles as far as they are seen.

    Returns:
        [n, 2] int32 whole pixels (x, y), all inside the frame; n = 0 where nothing is sure.
    """
    points = to_pixels(pose.body[frame, list(PROMPT_JOINTS)], *pose.size)
    places, scores = points[:, :2], points[:, 2]
    is_inside = ((places >= 0) & (places < pose.size)).all(axis=1)
    return places[is_inside & (scores >= POINT_SCORE)].astype(np.int32)


def key_points(pose: PoseTrack) -> dict[int, Array]:
    """Places on the person for each key frame of a chunk.

    A key frame that shows nobody hands over to the first frame after it that does, before the
    next key frame.

    Args:
        pose: the chunk's frames.
    Returns:
        [n, 2] int32 by frame, in order; empty if no frame shows anything sure.
    """
    prompts = {}
    for start, end in pairwise([*key_frames(len(pose)), len(pose)]):
        for frame in range(start, end):
            points = prompt_points(pose, frame)
            if len(points) and frame not in pose.misses:
                prompts[frame] = points
                break
    return prompts


def _check(frames: Array, pose: PoseTrack) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise GeometryError(
            what=f"The frames have the shape {list(frames.shape)} and type {frames.dtype}.",
            why="A person is segmented in [frames, height, width, 3] in 0..255.",
            fix="Give the frames of a driving video as they were read.",
        )
    length, height, width = frames.shape[:3]
    if (len(pose), *pose.size) != (length, width, height):
        raise GeometryError(
            what=f"The poses are of {len(pose)} frames of {pose.width}x{pose.height}, the video "
            f"has {length} of {width}x{height}.",
            why="Each frame is segmented where its own pose is.",
            fix="Measure the poses in the frames that are segmented.",
        )


def _nobody(what: str) -> InputError:
    return InputError(
        what=what,
        why="Replacement needs to know where the person is.",
        fix="Use a video that shows a person, or give a mask, or a box around the person.",
    )
