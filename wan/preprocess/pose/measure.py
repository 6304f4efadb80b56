"""The pose of one person through a video: found, chosen, measured; perhaps in several places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ...errors import InputError
from ...media.sequence import Frames, pixels
from ...progress import Reporter, phase
from ...spread import Part, Spread, plan_parts
from .detect import BATCH, PersonChoice, choose_boxes, detect_people
from .keypoints import build_track, measure_points
from .onnx import ModelKind, OnnxModel, OnnxRuntime
from .track import PoseTrack

Array = np.ndarray

FRAMES = 8 * BATCH
"""Frames of a part: whole batches, so that a model sees the same ones as without parts."""


def measure_poses(
    frames: Frames,
    detector: OnnxModel,
    pose: OnnxModel,
    choice: PersonChoice | None = None,
    batch: int = BATCH,
    reporter: Reporter | None = None,
    needs_person: bool = True,
) -> PoseTrack:
    """The pose of one person through a video, or in a picture.

    Args:
        frames: T frames of one size.
        detector, pose: opened models.
        choice: whom to measure; the reference's rule by default.
        batch: frames per call of a model.
        reporter: two phases, one update a frame in each.
        needs_person: False measures frames in which nobody was found as a whole, as the
            reference does; for example a drawn character that the detector does not know.
    Raises:
        InputError: no frames, or nobody in any of them.
    """
    width, height = _size(frames)
    people = detect_people(frames, detector, batch, reporter)
    boxes, misses = choose_boxes(people, choice or PersonChoice(), width, height)
    if needs_person:
        _expect_person(misses, len(frames))
    points = measure_points(frames, boxes, pose, batch, reporter)
    return build_track(points, boxes, misses, width, height)


def measure_poses_spread(
    frames: Frames,
    detector: OnnxModel,
    pose: OnnxModel,
    reporter: Reporter,
    spread: Spread,
    device: str,
) -> PoseTrack:
    """`measure_poses` by the reference's rule, part by part; the same result.

    Args:
        frames: T frames of one size.
        detector, pose: name the files, which every machine has at the same place.
        reporter: two phases, one update a frame in each.
        spread: does the parts.
        device: type of the device on which the models run.
    Raises:
        InputError: as `measure_poses`.
    """
    width, height = _size(frames)
    parts = plan_parts(len(frames), FRAMES)

    def follow(name: str, work: Any, given: Iterator[tuple[Any, ...]]) -> Iterator[Any]:
        with phase(reporter, name, len(frames)) as advance:
            for made in spread.map(work, given, reporter, device):
                for _ in made:
                    advance()
                yield made

    sent = ((_pixels(frames, part), str(detector.path), device) for part in parts)
    found = [one for made in follow("find the person", detect_part, sent) for one in made]
    boxes, misses = choose_boxes(found, PersonChoice(), width, height)
    _expect_person(misses, len(frames))
    sent = ((_pixels(frames, p), boxes[p.frames], str(pose.path), device) for p in parts)
    points = np.concatenate(list(follow("measure the pose", points_part, sent)))
    return build_track(points, boxes, misses, width, height)


def detect_part(frames: Array, path: str, device: str) -> list[Array]:
    """All people in some frames, wherever this runs; see `detect_people`.

    Args:
        frames: [n, H, W, 3] uint8.
        path: of the detector.
        device: type of the device.
    """
    return detect_people(frames, _opened(path, ModelKind.DETECTOR, device))


def points_part(frames: Array, boxes: Array, path: str, device: str) -> Array:
    """The points of one person in some frames, wherever this runs; see `measure_points`.

    Args:
        frames: [n, H, W, 3] uint8.
        boxes: [n, 5].
        path: of the pose model.
        device: type of the device.
    """
    return measure_points(frames, boxes, _opened(path, ModelKind.POSE, device))


@lru_cache(maxsize=2)
def _opened(path: str, kind: ModelKind, device: str) -> OnnxModel:
    """Kept by the process, for the next part."""
    return OnnxModel(path, kind, OnnxRuntime(device))


def _size(frames: Frames) -> tuple[int, int]:
    if len(frames) == 0:
        raise InputError(
            what="There are no frames to measure.",
            why="A pose needs at least one picture.",
            fix="Choose a video with frames in the selected range.",
        )
    height, width = pixels(frames, 0).shape[:2]
    return width, height


def _expect_person(misses: Sequence[int], count: int) -> None:
    if len(misses) == count:
        raise InputError(
            what=f"No person was found in any of the {count} frames.",
            why="The pose of a person is what drives the animation.",
            fix="Use a video in which one person is clearly visible and not very small.",
        )


def _pixels(frames: Frames, part: Part) -> Array:
    return np.stack([pixels(frames, number) for number in range(part.first, part.end)])
