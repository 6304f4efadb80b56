"""People in frames: boxes from a YOLO model, and the choice of the one to animate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ...errors import InputError, ModelError
from ...media.sequence import Frames, pixels
from ...progress import Reporter, Silent, phase
from .onnx import OnnxModel

Array = np.ndarray

BATCH = 8
"""Frames per call of a model."""

# Wan2.2 preprocess/pose2d.py, Yolo.__init__
_SIDE = 640
_LEAST_SCORE = np.float32(0.05)
_MOST_OVERLAP = 0.5
_LEAST_SHARE_OF_LONGEST = 0.4
_PERSON = 0  # class number in COCO

# Ours. A person is chosen among those the detector is fairly sure of, and followed by overlap;
# who moved too far for that is the nearest of similar size.
_SURE_SCORE = 0.3
_LEAST_OVERLAP = 0.3
_REACH = 0.5  # of the box's diagonal
_REACH_GROWTH = 0.1  # more for each frame since the person was last seen
_MOST_GROWTH = 2.0  # between two boxes of one person, by area


class PersonRule(str, Enum):
    """Which person to take where several are seen."""

    LARGEST = "largest"
    """In each frame by itself: the largest box. The reference's rule; may jump."""
    LEFT_MOST = "left-most"
    """Whose box has the left-most middle; followed."""
    INDEX = "index"
    """The n-th from the left, 0 = left-most; followed."""
    POINT = "nearest to a point"
    """Whose box holds the point, else the nearest box; followed."""


@dataclass(frozen=True)
class PersonChoice:
    """Whom to measure. All rules but LARGEST choose once and follow that person."""

    rule: PersonRule = PersonRule.LARGEST
    index: int = 0
    """For INDEX."""
    x: float = 0.5
    """For POINT: fraction of the frame's width."""
    y: float = 0.5
    """For POINT: fraction of the frame's height."""


def detect_people(
    frames: Frames, model: OnnxModel, batch: int = BATCH, reporter: Reporter | None = None
) -> list[Array]:
    """All people in each frame.

    Args:
        frames: T frames.
        model: a detector.
        batch: frames per call.
        reporter: one phase, one update a frame.
    Returns:
        T arrays [n, 5] float64, surest first: x0, y0, x1, y1 in whole pixels, and the score.
    Raises:
        ModelError: the model's output is of no known layout.
    """
    people: list[Array] = []
    room = np.empty((min(batch, len(frames)), 3, _SIDE, _SIDE), np.float32)
    with phase(reporter or Silent(), "find the person", len(frames)) as advance:
        for start in range(0, len(frames), batch):
            numbers = range(start, min(start + batch, len(frames)))
            fed, sizes = room[: len(numbers)], []
            for place, number in enumerate(numbers):
                frame = pixels(frames, number)
                sizes.append(frame.shape[1::-1])
                prepare_frame(frame, fed[place])
            for output, (width, height) in zip(model.run(fed, reporter), sizes, strict=True):
                people.append(decode_people(output, width, height))
                advance()
    return people


def prepare_frame(frame: Array, target: Array) -> None:
    """Write a frame as the detector wants it: squashed to a square, not letterboxed.

    Args:
        frame: [H, W, 3] uint8 RGB.
        target: [3, 640, 640] float32, becomes RGB in 0..1.
    """
    import cv2

    small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
    for channel, plane in zip(cv2.split(small), target, strict=True):  # H W C -> C H W
        np.divide(channel, 255, out=plane, dtype=np.float32)


def decode_people(output: Array, width: int, height: int) -> Array:
    """People from the detector's output for one frame.

    Args:
        output: [n, 6] (x0, y0, x1, y1, score, class) or [84, n] (middle, size, 80 class scores),
            in the detector's 640 x 640 pixels.
        width, height: pixels of the frame.
    Returns:
        [n, 5] float64, surest first: x0, y0, x1, y1 in whole pixels of the frame, and the score.
    Raises:
        ModelError: another shape.
    Source: Wan2.2 preprocess/pose2d.py, Yolo.postprocess.
    """
    scale = np.array([width, height, width, height]) / _SIDE
    if output.ndim == 2 and output.shape[1] == 6:
        corners = (output[:, :4] * scale).astype(np.float32)
        sized = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        scores, classes = output[:, 4], output[:, 5]
    elif output.ndim == 2 and output.shape[0] == 84:
        middle, size, rating = output[:2].T, output[2:4].T, output[4:].T
        sized = np.concatenate([middle - size / 2, size], axis=1) * scale
        scores, classes = rating.max(axis=1), rating.argmax(axis=1)
    else:
        raise ModelError(
            what=f"The detector gave an output of the shape {output.shape} for a frame.",
            why="Rows of 6 numbers, or 84 rows, are understood.",
            fix="Choose yolov10m.onnx as the detector.",
        )
    kept = scores > _LEAST_SCORE
    # whole pixels before overlaps are compared, as the reference does
    boxes, scores, classes = sized[kept].astype(np.int32), scores[kept], classes[kept]
    chosen = suppress(boxes, scores)
    boxes, scores, classes = boxes[chosen], scores[chosen], classes[chosen]
    boxes[:, 2:] += boxes[:, :2]
    rows = np.concatenate([boxes, scores[:, None]], axis=1).astype(np.float64)
    return rows[classes == _PERSON]


def suppress(boxes: Array, scores: Array) -> list[int]:
    """Drop boxes that overlap a surer one by more than half, whatever their classes.

    Args:
        boxes: [n, 4] x, y, width, height.
        scores: [n].
    Returns:
        Numbers of the boxes that stay, surest first.
    """
    corners = boxes.astype(np.float64)
    corners[:, 2:] += corners[:, :2]
    left = np.argsort(-scores, kind="stable")
    chosen: list[int] = []
    while len(left):
        chosen.append(int(left[0]))
        left = left[1:][overlap(corners[left[0]], corners[left[1:]]) <= _MOST_OVERLAP]
    return chosen


def overlap(box: Array, others: Array) -> Array:
    """Intersection over union of a box with others.

    Args:
        box: [4] x0, y0, x1, y1.
        others: [n, 4].
    Returns:
        [n], 0..1; 1 for two boxes without any area.
    """
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.prod(np.maximum(sides, 0), axis=1)
    union = _area(box) + _area(others) - common
    return np.divide(common, union, out=np.ones(len(others)), where=union > 0)


def largest_person(people: Array) -> Array | None:
    """The reference's choice in one frame.

    People are looked at from the surest on; a larger box replaces the best so far unless its
    longer side is under 0.4 of the longest seen, which is that of the best once there is one.

    Args:
        people: [n, 5], surest first.
    Returns:
        A row, or None where there is nobody.
    Source: Wan2.2 preprocess/pose2d.py, Yolo.process_results, "max" and strict.
    """
    best, best_area = None, -np.inf
    longest = max((_long_side(person) for person in people), default=0)
    for person in people:
        if _area(person) > best_area and _long_side(person) >= _LEAST_SHARE_OF_LONGEST * longest:
            best, best_area, longest = person, _area(person), _long_side(person)
    return best


def choose_boxes(
    people: Sequence[Array], choice: PersonChoice, width: int, height: int
) -> tuple[Array, tuple[int, ...]]:
    """The box of the wanted person in each frame.

    Where the person is missing, LARGEST gives the whole frame with the score -1, as the
    reference does; the rules that follow someone keep the last box, so that the pose model does
    not take to somebody else, and give the whole frame only before the person appears.

    Args:
        people: per frame [n, 5], from `detect_people`.
        choice: whom.
        width, height: pixels of the frames.
    Returns:
        [T, 5] float32 and the numbers of the frames in which the person is missing.
    Raises:
        InputError: INDEX asks for more people than any frame shows.
    """
    if choice.rule is PersonRule.LARGEST:
        found = [largest_person(rows) for rows in people]
    else:
        found = _follow(people, choice, width, height)
    nobody = np.array([0, 0, width, height, -1], np.float64)
    boxes, misses, last = [], [], nobody
    for number, person in enumerate(found):
        if person is None:
            misses.append(number)
            boxes.append(nobody if choice.rule is PersonRule.LARGEST else last)
        else:
            boxes.append(person)
            last = person
    return np.array(boxes, np.float32).reshape(-1, 5), tuple(misses)


@dataclass
class _Track:
    """One person, seen from frame to frame."""

    last: Array
    motion: Array = field(default_factory=lambda: np.zeros(2))
    """Pixels a frame, from the last two sightings."""
    unseen: int = 0
    seen: dict[int, Array] = field(default_factory=dict)

    def add(self, number: int, box: Array) -> None:
        """The person was seen again."""
        self.motion = (_middle(box) - _middle(self.last)) / (self.unseen + 1)
        self.last, self.unseen = box, 0
        self.seen[number] = box

    def expected(self) -> Array:
        """Where the box should be now. Who is hidden is expected back at the same place."""
        shift = self.motion if self.unseen == 0 else 0 * self.motion
        return self.last[:4] + np.tile(shift, 2)


def _follow(
    people: Sequence[Array], choice: PersonChoice, width: int, height: int
) -> list[Array | None]:
    tracks = _track(people)
    sure = [
        [t for t in tracks if number in t.seen and t.seen[number][4] >= _SURE_SCORE]
        for number in range(len(people))
    ]
    if not any(sure):
        sure = [[t for t in tracks if number in t.seen] for number in range(len(people))]
    wanted = choice.index + 1 if choice.rule is PersonRule.INDEX else 1
    for number, candidates in enumerate(sure):
        if len(candidates) >= wanted:
            target = _pick(candidates, number, choice, width, height)
            return [target.seen.get(frame) for frame in range(len(people))]
    most = max(map(len, sure), default=0)
    if most == 0:
        return [None] * len(people)
    raise InputError(
        what=f"Person {choice.index} was asked for, but no frame shows more than {most}.",
        why="People are counted from the left, starting at 0.",
        fix=f"Choose 0 to {most - 1}, or another rule.",
    )


def _pick(
    candidates: list[_Track], number: int, choice: PersonChoice, width: int, height: int
) -> _Track:
    def from_left(track: _Track) -> float:
        box = track.seen[number]
        return float(box[0] + box[2])

    def from_point(track: _Track) -> tuple[float, float]:
        box, point = track.seen[number], np.array([choice.x * width, choice.y * height])
        outside = np.maximum(np.maximum(box[:2] - point, point - box[2:4]), 0)
        return float(np.hypot(*outside)), float(np.hypot(*(_middle(box) - point)))

    if choice.rule is PersonRule.POINT:
        return min(candidates, key=from_point)
    ordered = sorted(candidates, key=from_left)
    return ordered[choice.index if choice.rule is PersonRule.INDEX else 0]


def _track(people: Sequence[Array]) -> list[_Track]:
    """Follow everybody at once, so that nobody takes over the box of someone who is still there."""
    tracks: list[_Track] = []
    for number, rows in enumerate(people):
        # who was there a frame ago has the first choice, before those who may come back
        pairs = [
            ((track.unseen == 0, *_likeness(track, row)), t, r)
            for t, track in enumerate(tracks)
            for r, row in enumerate(rows)
        ]
        taken_tracks: set[int] = set()
        taken_rows: set[int] = set()
        for (_, kind, _), t, r in sorted(pairs, reverse=True):
            if kind == 0 or t in taken_tracks or r in taken_rows:
                continue
            taken_tracks.add(t)
            taken_rows.add(r)
            tracks[t].add(number, rows[r])
        for t, track in enumerate(tracks):
            track.unseen += t not in taken_tracks
        fresh = [row for r, row in enumerate(rows) if r not in taken_rows]
        tracks.extend(_Track(row, seen={number: row}) for row in fresh)
    return tracks


def _likeness(track: _Track, box: Array) -> tuple[int, float]:
    """(2, overlap), else (1, minus the distance) within reach, else (0, 0)."""
    expected = track.expected()
    shared = float(overlap(expected, box[None, :4])[0])
    if shared >= _LEAST_OVERLAP:
        return 2, shared
    before, now = _area(track.last), _area(box)
    apart = float(np.hypot(*(_middle(box) - _middle(expected))))
    diagonal = float(np.hypot(*(track.last[2:4] - track.last[:2])))
    near = apart <= diagonal * (_REACH + _REACH_GROWTH * track.unseen)
    if near and max(before, now) <= _MOST_GROWTH * min(before, now):
        return 1, -apart
    return 0, 0.0


def _area(boxes: Array) -> Array:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _long_side(box: Array) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _middle(box: Array) -> Array:
    return (box[:2] + box[2:4]) / 2
