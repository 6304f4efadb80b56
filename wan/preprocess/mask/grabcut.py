"""A stand-in for SAM2 that needs no weights: GrabCut, seeded by the pose, carried along by flow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..pose.track import HAND_BONES, LIMBS, Array, Joint, PoseTrack, to_pixels
from .segment import POINT_SCORE

NOTE = (
    "The person was cut out by GrabCut, a fallback without weights: parts that look like the "
    "background may be missing, so look at the masks. SAM2 or a mask of your own is better."
)
_LONGEST_SIDE = 640
"""Pixels of the frames that are worked on; larger ones are reduced."""
_FIRST_ROUNDS, _NEXT_ROUNDS = 5, 2
_MARGIN = 0.05  # of the box, around it: a detector's box is tight
_FRAME = 48  # pixels of sure background around what is possible, to learn its colours from
_LEAST_PART = 0.05  # of the largest part: smaller ones without a joint in them are noise
_LARGEST_HOLE = 0.02  # of the mask; larger ones are the gap between an arm and the body
_REACH = 0.08  # of the height of the mask of the frame before, around it
_COLLAPSE = 0.3  # of the area of the frame before: less, without a pose, is a failure


@dataclass(frozen=True)
class _Thickness:
    """How far around its joints a body reaches."""

    limbs: float
    """Width of the lines, share of the shoulders' width."""
    head: float
    """Radius around the eyes, share of the distance of the ears."""


_SURE, _LIKELY, _POSSIBLE = _Thickness(0.2, 0.45), _Thickness(0.5, 0.8), _Thickness(1.2, 1.4)
_FINGER = 1 / 3  # of a limb's width
_HEAD = [Joint.NOSE, Joint.RIGHT_EYE, Joint.LEFT_EYE, Joint.RIGHT_EAR, Joint.LEFT_EAR]
_TRUNK = [Joint.RIGHT_SHOULDER, Joint.LEFT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP]


@dataclass(frozen=True)
class _Guess:
    """What is known of one frame before its colours are looked at, all [h, w] bool."""

    possible: Array
    likely: Array
    sure: Array


@dataclass(frozen=True)
class _Prior:
    """What the frame before says about a frame, both [h, w] bool."""

    mask: Array
    """Its mask, moved with the picture."""
    reach: Array
    """Where the person may be by now."""


class GrabCut:
    """Cuts the person out by colour, without any weights.

    Thick lines along the limbs are surely the person, what is far from them and from the mask of
    the frame before surely is not. Frames without a pose follow the optical flow. The same frames
    always give the same masks.
    """

    note: str | None = NOTE

    def segment(self, frames: Array, pose: PoseTrack, advance: Callable[[], None]) -> Array:
        """Masks of the person whose pose this is; see `Segmenter`.

        Frames before the first one in which the person was found are done backwards from it.
        """
        masks = np.zeros(frames.shape[:3], np.uint8)
        first = next(frame for frame in range(len(frames)) if frame not in pose.misses)
        start = self._run(frames, pose, range(first, len(frames)), None, masks, advance)
        self._run(frames, pose, range(first - 1, -1, -1), start, masks, advance)
        return masks

    def _run(
        self,
        frames: Array,
        pose: PoseTrack,
        order: range,
        before: tuple[Array, Array] | None,
        masks: Array,
        advance: Callable[[], None],
    ) -> tuple[Array, Array] | None:
        """Fill in `masks` frame by frame; gives back the first small frame and mask."""
        start = None
        for frame in order:
            small = _reduce(frames[frame])
            prior = _carry(*before, small) if before else None
            mask = _segment_frame(small, pose, frame, prior)
            masks[frame] = _enlarge(mask, frames.shape[1:3])
            before = small, mask
            start = start or before
            advance()
        return start


def _segment_frame(picture: Array, pose: PoseTrack, frame: int, prior: _Prior | None) -> Array:
    """Mask [h, w] bool of a small frame."""
    guess = _guess(picture.shape[:2], pose, frame, prior)
    if not guess.likely.any():
        return guess.likely
    mask = _cut(picture, guess, _FIRST_ROUNDS if prior is None else _NEXT_ROUNDS)
    mask = _clean(mask, guess.sure)
    is_seen = frame not in pose.misses
    if prior and not is_seen and mask.sum() < _COLLAPSE * prior.mask.sum():
        return prior.mask
    return mask


def _guess(shape: tuple[int, int], pose: PoseTrack, frame: int, prior: _Prior | None) -> _Guess:
    height, width = shape
    nothing = np.zeros(shape, bool)
    scale = np.array([width / pose.width, height / pose.height])
    corners, near, likely, sure = None, nothing, nothing, nothing
    if frame not in pose.misses:
        if pose.boxes[frame, 4] > 0:
            corners = pose.boxes[frame, :4].reshape(2, 2) * scale
        joints, *hands = (
            to_pixels(part[frame], *pose.size) * (*scale, 1)
            for part in (pose.body, pose.left_hand, pose.right_hand)
        )
        near, likely, sure = (
            _draw_body(shape, joints, hands, thickness) for thickness in (_POSSIBLE, _LIKELY, _SURE)
        )
    if corners is not None and near.any():
        near = near & _fill_box(shape, corners[0], corners[1], _MARGIN)
    if prior and prior.mask.any():
        possible, likely = (near if near.any() else prior.reach), prior.mask
    elif near.any():
        possible = near
    elif corners is not None:
        possible = likely = _fill_box(shape, corners[0], corners[1])
    else:
        possible = nothing
    possible = possible | sure
    return _Guess(possible, likely & possible | sure, sure)


def _around(mask: Array) -> Array:
    """The mask and a band around it, as far as its edge may move within a frame."""
    import cv2

    rows, columns = np.nonzero(mask)
    reach = max(2, round(_REACH * max(np.ptp(rows), np.ptp(columns))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


def _fill_box(shape: tuple[int, int], low: Array, high: Array, margin: float = 0) -> Array:
    """A box as a bool mask, widened by a share of its longer side."""
    height, width = shape
    widened = margin * (high - low).max()
    x0, y0 = np.floor(np.maximum(low - widened, 0)).astype(int)
    x1, y1 = np.ceil(np.minimum(high + widened + 1, (width, height))).astype(int)
    box = np.zeros(shape, bool)
    box[y0:y1, x0:x1] = True
    return box


def _draw_body(
    shape: tuple[int, int], joints: Array, hands: Sequence[Array], thickness: _Thickness
) -> Array:
    """Limbs, hands, trunk and head, as far as their points are sure, as a bool mask."""
    import cv2

    is_sure = joints[:, 2] >= POINT_SCORE
    points = joints[:, :2]
    drawn = np.zeros(shape, np.uint8)
    if not is_sure.any():
        return drawn.astype(bool)
    width = max(1, round(thickness.limbs * _shoulder_width(points, is_sure)))

    def whole(point: Array) -> tuple[int, int]:
        return round(float(point[0])), round(float(point[1]))

    def draw_bones(parts: Array, bones: Iterable[tuple[int, int]], width: int) -> None:
        for ends in bones:
            near, far = parts[list(ends)]
            if min(near[2], far[2]) >= POINT_SCORE:
                cv2.line(drawn, whole(near), whole(far), 1, width)

    draw_bones(joints, (limb for limb in LIMBS if limb[1] not in _HEAD[1:]), width)
    for hand in hands:
        draw_bones(hand, HAND_BONES, max(1, round(width * _FINGER)))
    if is_sure[_TRUNK].all():
        cv2.fillConvexPoly(drawn, np.round(points[_TRUNK]).astype(np.int32), 1)
    head = points[_HEAD][is_sure[_HEAD]]
    if len(head) > 1:
        radius = max(1, round(thickness.head * float(np.ptp(head, axis=0).max())))
        cv2.circle(drawn, whole(head.mean(axis=0)), radius, 1, -1)
    return drawn.astype(bool)


def _shoulder_width(points: Array, is_sure: Array) -> float:
    """About the width of the shoulders in pixels, also of somebody seen from the side."""
    limbs = {(near, far): np.linalg.norm(points[far] - points[near]) for near, far in LIMBS}
    known = [
        2 * length
        for (near, far), length in limbs.items()
        if near == Joint.NECK and far in _TRUNK[:2] and is_sure[near] and is_sure[far]
    ]
    # A trunk is about one and a half shoulders high, upper arms and shins are shorter than that.
    known += [
        length / 1.5 for (near, far), length in limbs.items() if is_sure[near] and is_sure[far]
    ]
    if known:
        return float(max(known))
    extent = np.ptp(points[is_sure], axis=0)
    return max(2.0, float(extent.max()) / 4)


def _cut(picture: Array, guess: _Guess, rounds: int) -> Array:
    import cv2

    rows, columns = np.nonzero(guess.possible)
    height, width = guess.possible.shape
    top, bottom = max(0, rows.min() - _FRAME), min(height, rows.max() + 1 + _FRAME)
    left, right = max(0, columns.min() - _FRAME), min(width, columns.max() + 1 + _FRAME)
    area = slice(top, bottom), slice(left, right)

    labels = np.full(guess.possible.shape, cv2.GC_BGD, np.uint8)
    labels[guess.possible] = cv2.GC_PR_BGD
    labels[guess.likely] = cv2.GC_PR_FGD
    labels[guess.sure] = cv2.GC_FGD
    part = labels[area].copy()
    if not np.isin(part, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        return guess.likely  # nothing to tell the person from
    cv2.setRNGSeed(0)  # its clusters start at random, and the same frames are to give the same mask
    models = np.zeros((1, 65)), np.zeros((1, 65))  # the sizes that OpenCV wants
    pixels = np.ascontiguousarray(picture[area])
    cv2.grabCut(pixels, part, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    mask = np.zeros(guess.possible.shape, bool)
    mask[area] = (part == cv2.GC_FGD) | (part == cv2.GC_PR_FGD)
    return mask


def _clean(mask: Array, sure: Array) -> Array:
    """Close small holes, and keep large parts and those that something sure runs through."""
    import cv2

    kernel = np.ones((3, 3), np.uint8)
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    areas = statistics[:, cv2.CC_STAT_AREA]
    kept = areas >= _LEAST_PART * areas[1:].max(initial=0)
    kept[np.unique(labels[sure])] = True
    kept[0] = False
    person = kept[labels]
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((~person).astype(np.uint8))
    is_hole = statistics[:, cv2.CC_STAT_AREA] <= _LARGEST_HOLE * person.sum()
    is_hole[0] = False
    return person | is_hole[labels]


def _carry(picture: Array, mask: Array, target: Array) -> _Prior:
    """Move a mask along with what moved between two small frames."""
    import cv2

    if not mask.any():
        return _Prior(mask, mask)
    here, there = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (target, picture))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(here, there, None)
    height, width = mask.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        mask.astype(np.uint8),
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )
    moved = moved.astype(bool)
    # Flow loses what has no texture; the colours find it again if they may look where it was.
    return _Prior(moved, _around(moved | mask))


def _reduce(frame: Array) -> Array:
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale == 1:
        return frame
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _enlarge(mask: Array, shape: tuple[int, int]) -> Array:
    import cv2

    height, width = shape
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return (soft >= 0.5).astype(np.uint8)
