"""Poses as OpenPose dictionaries, the `POSE_KEYPOINT` that other ComfyUI nodes speak.

A video is a list with one dictionary a frame: canvas_width, canvas_height and people, each with
flat lists x, y, confidence, ... in pixels. Written is what core's SDPose nodes read: 18 body points,
6 foot points, 70 face points (the two eyes at the end), 21 a hand. Read is also what DWPose nodes
and OpenPose itself give: BODY_25, missing parts as null, fractions instead of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import GeometryError, InputError
from .detect import PersonChoice, choose_boxes
from .track import FACE_POINTS, HAND_POINTS, Joint, PoseTrack, to_fractions, to_pixels

Array = np.ndarray
PoseKeypoint = list[dict[str, Any]]

_BODY, _FEET, _FACE = "pose_keypoints_2d", "foot_keypoints_2d", "face_keypoints_2d"
_LEFT, _RIGHT = "hand_left_keypoints_2d", "hand_right_keypoints_2d"
_COCO_18 = tuple(Joint)[:18]
# CMU OpenPose doc/02_output.md, BODY_25; number 8 is the middle of the hips.
_BODY_25: dict[Joint, int] = {
    Joint.NOSE: 0,
    Joint.NECK: 1,
    Joint.RIGHT_SHOULDER: 2,
    Joint.RIGHT_ELBOW: 3,
    Joint.RIGHT_WRIST: 4,
    Joint.LEFT_SHOULDER: 5,
    Joint.LEFT_ELBOW: 6,
    Joint.LEFT_WRIST: 7,
    Joint.RIGHT_HIP: 9,
    Joint.RIGHT_KNEE: 10,
    Joint.RIGHT_ANKLE: 11,
    Joint.LEFT_HIP: 12,
    Joint.LEFT_KNEE: 13,
    Joint.LEFT_ANKLE: 14,
    Joint.RIGHT_EYE: 15,
    Joint.LEFT_EYE: 16,
    Joint.RIGHT_EAR: 17,
    Joint.LEFT_EAR: 18,
}
# Both orders of feet are big toe, small toe, heel; a toe of ours is the mean of the first two.
_FOOT_TOES: dict[Joint, tuple[int, int]] = {Joint.LEFT_TOE: (0, 1), Joint.RIGHT_TOE: (3, 4)}
_BODY_25_TOES: dict[Joint, tuple[int, int]] = {Joint.LEFT_TOE: (19, 20), Joint.RIGHT_TOE: (22, 23)}
_FOOT_POINTS = 6
# A fraction may lie a little outside of the frame; coordinates in pixels lie far beyond.
_LARGEST_FRACTION = 2.0


def write_openpose(track: PoseTrack, certain: float | None = None) -> PoseKeypoint:
    """A track as OpenPose dictionaries in pixels.

    Args:
        track: T frames.
        certain: None writes each point with its score, as core's SDPose nodes do. A number
            writes points of at least that score with confidence 1 and all others as 0, 0, 0, as
            DWPose nodes do, which take a confidence under 1 for a missing point.
    Returns:
        T dictionaries of plain numbers and lists.
    """

    def flat(points: Array) -> list[float]:
        if certain is not None:
            sure = points[:, 2] >= certain
            points = np.where(sure[:, None], points, 0)
            points[:, 2] = sure
        return points.ravel().tolist()

    frames: PoseKeypoint = []
    parts = (track.body, track.left_hand, track.right_hand, track.face)
    for body, left, right, face in zip(*(to_pixels(p, *track.size) for p in parts), strict=True):
        feet = np.zeros((_FOOT_POINTS, 3))
        for toe, (big, small) in _FOOT_TOES.items():
            feet[[big, small]] = body[toe]
        eyes = body[[Joint.RIGHT_EYE, Joint.LEFT_EYE]]
        person = {
            _BODY: flat(body[: len(_COCO_18)]),
            _FEET: flat(feet),
            _FACE: flat(np.concatenate([face, eyes])),
            _RIGHT: flat(right),
            _LEFT: flat(left),
        }
        frames.append(
            {"canvas_width": track.width, "canvas_height": track.height, "people": [person]}
        )
    return frames


def read_openpose(frames: PoseKeypoint, choice: PersonChoice | None = None) -> PoseTrack:
    """A track from OpenPose dictionaries.

    Points that a producer does not give have the score 0. Frames without anybody are misses with
    all scores 0. Core's SDPose nodes call the person's left hand the right one; hands that lie at
    the other wrist in most frames are taken for that.

    Args:
        frames: T dictionaries.
        choice: which person, where a frame has several; the largest by default.
    Raises:
        InputError: no frames, nobody in any of them, or a list of an unknown length.
        GeometryError: frames of different sizes.
    """
    width, height = _canvas(frames)
    people = [_read_people(frame, width, height) for frame in frames]
    boxes, misses = choose_boxes(
        [np.array([_box(person) for person in row]).reshape(-1, 5) for row in people],
        choice or PersonChoice(),
        width,
        height,
    )
    if len(misses) == len(frames):
        raise InputError(
            what=f"None of the {len(frames)} poses holds a person.",
            why="The pose of a person is what drives the animation.",
            fix="Check the node that the poses come from, for example with its drawing.",
        )
    points = np.zeros((len(frames), len(Joint) + 2 * HAND_POINTS + FACE_POINTS, 3))
    for number, row in enumerate(people):
        if number not in misses:
            chosen = [(_box(person)[:4] == boxes[number, :4]).all() for person in row].index(True)
            points[number] = row[chosen]
    body, left, right, face = _split(to_fractions(points, width, height))
    track = PoseTrack(width, height, body, left, right, face, boxes, misses)
    return _name_hands(track)


def _canvas(frames: PoseKeypoint) -> tuple[int, int]:
    keys = ("canvas_width", "canvas_height")
    if not frames or not all(frame.get(key) for frame in frames for key in keys):
        raise InputError(
            what="The poses have no canvas size." if frames else "The list of poses is empty.",
            why="A pose needs at least one frame, and each frame its width and height.",
            fix="Use poses from an SDPose, DWPose or OpenPose node for people.",
        )
    sizes = {(int(frame["canvas_width"]), int(frame["canvas_height"])) for frame in frames}
    if len(sizes) > 1:
        texts = sorted(f"{width}x{height}" for width, height in sizes)
        raise GeometryError(
            what=f"The poses belong to frames of different sizes: {', '.join(texts)}.",
            why="All frames of a video have one size.",
            fix="Take the poses from one video.",
        )
    return sizes.pop()


def _read_people(frame: dict[str, Any], width: int, height: int) -> list[Array]:
    """All people of a frame of whom anything was seen."""
    given = (person for person in frame.get("people") or [] if person.get(_BODY))
    people = [_read_person(person, width, height) for person in given]
    return [person for person in people if (person[:, 2] > 0).any()]


def _read_person(person: dict[str, Any], width: int, height: int) -> Array:
    """[130, 3] in pixels: body, left hand, right hand, face."""
    body = _read_body(person)
    left = _read_part(person, _LEFT, (HAND_POINTS,))[:HAND_POINTS]
    right = _read_part(person, _RIGHT, (HAND_POINTS,))[:HAND_POINTS]
    face = _read_part(person, _FACE, (FACE_POINTS, FACE_POINTS + 2))[:FACE_POINTS]
    points = np.concatenate([body, left, right, face])
    seen = points[points[:, 2] > 0, :2]
    if len(seen) and np.abs(seen).max() <= _LARGEST_FRACTION:
        points[:, :2] *= (width, height)
    return points


def _read_body(person: dict[str, Any]) -> Array:
    given = _read_part(person, _BODY, (len(_COCO_18), 25))
    body = np.zeros((len(Joint), 3))
    if len(given) == len(_COCO_18):
        body[: len(_COCO_18)] = given
        feet, toes = _read_part(person, _FEET, (_FOOT_POINTS,)), _FOOT_TOES
    else:
        body[list(_BODY_25)] = given[list(_BODY_25.values())]
        feet, toes = given, _BODY_25_TOES
    for toe, pair in toes.items():
        ends = feet[list(pair)]
        # the mean of two points of which one is missing would lie near the corner of the frame
        body[toe] = ends[ends[:, 2] > 0].mean(axis=0) if (ends[:, 2] > 0).any() else 0
    return body


def _read_part(person: dict[str, Any], name: str, counts: Sequence[int]) -> Array:
    """[n, 3] of one of the counts; zeros of the first where the part is missing."""
    numbers = person.get(name) or []
    if not numbers:
        return np.zeros((counts[0], 3))
    points, rest = divmod(len(numbers), 3)
    if rest or points not in counts:
        raise InputError(
            what=f"{name} holds {len(numbers)} numbers.",
            why=f"Known are {' and '.join(str(count) for count in counts)} points of x, y and "
            "confidence.",
            fix="Use poses from an SDPose, DWPose or OpenPose node for people.",
        )
    return np.array(numbers, np.float64).reshape(points, 3)


def _box(person: Array) -> Array:
    """Around the points that were seen; the score is the body's mean."""
    seen = person[person[:, 2] > 0, :2]
    score = person[: len(Joint), 2].mean()
    return np.array([*seen.min(axis=0), *seen.max(axis=0), score], np.float32)


def _split(points: Array) -> tuple[Array, Array, Array, Array]:
    ends = np.cumsum([len(Joint), HAND_POINTS, HAND_POINTS])
    body, left, right, face = np.split(points, ends, axis=1)
    return body, left, right, face


def _name_hands(track: PoseTrack) -> PoseTrack:
    body, left, right = (
        to_pixels(p, *track.size) for p in (track.body, track.left_hand, track.right_hand)
    )
    votes = 0
    for hand, own, other in (
        (left, Joint.LEFT_WRIST, Joint.RIGHT_WRIST),
        (right, Joint.RIGHT_WRIST, Joint.LEFT_WRIST),
    ):
        root = hand[:, 0]
        seen = (root[:, 2] > 0) & (body[:, own, 2] > 0) & (body[:, other, 2] > 0)
        to_own = np.hypot(*(root - body[:, own])[seen, :2].T)
        to_other = np.hypot(*(root - body[:, other])[seen, :2].T)
        votes += int((to_other < to_own).sum()) - int((to_own < to_other).sum())
    if votes <= 0:
        return track
    return replace(track, left_hand=track.right_hand, right_hand=track.left_hand)
