"""Where the person may be in a frame, before its colours are looked at: from the joints, the box of
the detector and the mask of the frame before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..pose.track import HAND_BONES, LIMBS, Array, Joint, PoseTrack, to_pixels
from .segment import POINT_SCORE

Shape = tuple[int, int]

MOST_ODDS = 6.0
"""Beyond it nothing is believed, neither for nor against: 400 to 1."""
_MASK_ODDS = 1.5  # of the mask of the frame before: colours can still correct it
_MARGIN = 0.05  # of the box, around it: a detector's box is tight


@dataclass(frozen=True)
class Prior:
    """What is known of one frame without its colours. All [h, w]."""

    odds: Array
    """float32: logarithm of the odds that a pixel is the person's, 0 = even."""
    sure: Array
    """bool: surely the person's."""
    possible: Array
    """bool: what is not, surely is not the person's."""


@dataclass(frozen=True)
class _Thickness:
    """How far around its bones a part of the body reaches, in sizes of that part."""

    sure: float
    """Up to here it surely is the person."""
    even: float
    """Here it is as likely as not. Bare limbs are about this thick, clothes are wider."""
    fall: float
    """By how much the log odds fall over one size."""


# Sizes: the width of the shoulders, the distance of the ears, the length of the palm.
_BODY, _HEAD, _HAND = _Thickness(0.1, 0.14, 12), _Thickness(0.45, 0.7, 6), _Thickness(0.1, 0.3, 6)
_SHORTEST_PALM = 0.25  # of the shoulders, for hands seen from their edge
_LONGEST_HAT = 1.6  # ear distances from the eyes up to the box; further up is not the head's
_TRUNK_HEIGHT, _THIGH = 1.5, 1.2  # in shoulders, of what the frame or a desk hides the end of
_MIDDLE_ODDS, _HALF_BOX = 1.0, 0.7  # in the middle column of a box, and where they are even

_HEAD_JOINTS = [Joint.NOSE, Joint.RIGHT_EYE, Joint.LEFT_EYE, Joint.RIGHT_EAR, Joint.LEFT_EAR]
_SHOULDERS = [Joint.RIGHT_SHOULDER, Joint.LEFT_SHOULDER]
_HIPS = [Joint.LEFT_HIP, Joint.RIGHT_HIP]
_THIGHS = ((Joint.RIGHT_HIP, Joint.RIGHT_KNEE), (Joint.LEFT_HIP, Joint.LEFT_KNEE))
_PALM = [0, 5, 9, 13, 17]  # the wrist and the fingers' roots


def frame_prior(shape: Shape, pose: PoseTrack, frame: int) -> Prior | None:
    """What joints and box say about a frame.

    Args:
        shape: height and width of the picture that is worked on.
        pose: measured in a frame of any size.
        frame: its number.
    Returns:
        None for a frame without the person, or one with neither a sure joint nor a box.
    """
    if frame in pose.misses:
        return None
    scale = np.array([shape[1] / pose.width, shape[0] / pose.height])
    box = pose.boxes[frame, :4].reshape(2, 2) * scale if pose.boxes[frame, 4] > 0 else None
    joints, *hands = (
        to_pixels(part[frame], *pose.size) * (*scale, 1)
        for part in (pose.body, pose.left_hand, pose.right_hand)
    )
    if (joints[:, 2] >= POINT_SCORE).any():
        return _Body(shape, joints, hands, box).prior()
    return None if box is None else _box_prior(shape, box)


def with_mask(prior: Prior | None, mask: Array, reach: Array, softness: float) -> Prior:
    """Add what the mask of the frame before says.

    Args:
        prior: of this frame, if anything is known of it.
        mask: [h, w] bool, moved to where the person is by now.
        reach: [h, w] bool, where the person may be if nothing else is known.
        softness: pixels from the mask's edge to where it is believed.
    """
    signed = _distance(~mask) - _distance(mask)
    odds = np.clip(signed / softness, -_MASK_ODDS, _MASK_ODDS)
    if prior is None:
        return Prior(odds, np.zeros_like(mask), reach)
    return Prior(prior.odds + odds, prior.sure, prior.possible)


class _Body:
    """Collects what the parts of one body say."""

    def __init__(
        self, shape: Shape, joints: Array, hands: Sequence[Array], box: Array | None
    ) -> None:
        self._joints, self._hands, self._box = joints, hands, box
        self._is_seen = joints[:, 2] >= POINT_SCORE
        self._shoulders = _shoulder_width(joints[:, :2], self._is_seen)
        self._odds = np.full(shape, -np.inf, np.float32)
        self._sure = np.zeros(shape, bool)

    def prior(self) -> Prior:
        """All of it together; nothing is possible outside of the box and its margin."""
        self._add_bones()
        self._add_head()
        for hand in self._hands:
            self._add_hand(hand)
        if self._box is not None:
            self._add_hidden(float(self._box[1, 1]))
        possible = self._odds > -MOST_ODDS
        if self._box is not None:
            possible &= _fill_box(self._odds.shape, self._box, _MARGIN)
        return Prior(self._odds, self._sure, possible | self._sure)

    def _add(self, bones: Array, size: float, thickness: _Thickness, is_sure: bool = True) -> None:
        """Thicken what is drawn [h, w] to a part of the given size in pixels."""
        if not bones.any():
            return
        apart = _distance(bones > 0) / size
        if is_sure:
            self._sure |= apart <= thickness.sure
        np.maximum(self._odds, thickness.fall * (thickness.even - apart), out=self._odds)

    def _add_bones(self) -> None:
        bones = self._canvas()
        _draw_lines(
            bones, self._joints, (limb for limb in LIMBS if limb[1] not in _HEAD_JOINTS[1:])
        )
        if self._is_seen[_SHOULDERS + _HIPS].all():
            _fill(bones, self._joints[_SHOULDERS + _HIPS])
        self._add(bones, self._shoulders, _BODY)

    def _add_head(self) -> None:
        points = self._joints[_HEAD_JOINTS][self._is_seen[_HEAD_JOINTS], :2]
        if len(points) < 2:
            return
        size, middle = max(1.0, float(np.ptp(points, axis=0).max())), points.mean(axis=0)
        skull = self._canvas()
        _line(skull, middle, middle)
        self._add(skull, size, _HEAD)
        if self._box is None or self._highest() < points[:, 1].min():
            return
        # Hair or a hat is what fills the box up to its top if nothing else is above the face.
        up = float(middle[1] - self._box[0, 1])
        if _HEAD.even * size < up < _LONGEST_HAT * size:
            _line(skull, middle, middle - (0, up - _HEAD.even * size))
            self._add(skull, size, _HEAD, is_sure=False)

    def _add_hand(self, hand: Array) -> None:
        is_seen = hand[:, 2] >= POINT_SCORE
        bones, size = self._canvas(), _SHORTEST_PALM * self._shoulders
        _draw_lines(bones, hand, HAND_BONES)
        if is_seen[_PALM].all():
            wrist, index, middle, _, little = hand[_PALM, :2]
            size = max(size, *(float(np.hypot(*way)) for way in (middle - wrist, little - index)))
            _fill(bones, hand[_PALM])
        self._add(bones, max(size, 1.0), _HAND)

    def _add_hidden(self, bottom: float) -> None:
        """Trunk and thighs down to the end of the box, where hips or knees are not in sight."""
        part = self._canvas()
        if self._is_seen[_SHOULDERS].all() and not self._is_seen[_HIPS].all():
            top = self._joints[_SHOULDERS, :2]
            end = min(bottom, float(top[:, 1].max()) + _TRUNK_HEIGHT * self._shoulders)
            _fill(part, np.array([*top, (top[1, 0], end), (top[0, 0], end)]))
        for hip, knee in _THIGHS:
            x, y = self._joints[hip, :2]
            if self._is_seen[hip] and not self._is_seen[knee] and y < bottom:
                _line(part, (x, y), (x, min(bottom, y + _THIGH * self._shoulders)))
        self._add(part, self._shoulders, _BODY, is_sure=False)

    def _highest(self) -> float:
        """The highest point of body and hands, in pixels from the top."""
        seen = [part[part[:, 2] >= POINT_SCORE, 1] for part in (self._joints, *self._hands)]
        return float(np.concatenate(seen).min())

    def _canvas(self) -> Array:
        return np.zeros(self._odds.shape, np.uint8)


def _box_prior(shape: Shape, box: Array) -> Prior:
    """A person fills the middle columns of their box from top to bottom rather than its sides."""
    possible = _fill_box(shape, box)
    middle, half = box[:, 0].mean(), max(1.0, float(np.ptp(box[:, 0])) / 2)
    apart = np.abs(np.arange(shape[1]) - middle) / half
    odds = (_MIDDLE_ODDS * (1 - apart / _HALF_BOX)).astype(np.float32)
    return Prior(np.broadcast_to(odds, shape), np.zeros(shape, bool), possible)


def _fill_box(shape: Shape, box: Array, margin: float = 0) -> Array:
    """A box as a bool mask, widened by a share of its longer side."""
    height, width = shape
    low, high = box
    widened = margin * (high - low).max()
    x0, y0 = np.floor(np.maximum(low - widened, 0)).astype(int)
    x1, y1 = np.ceil(np.minimum(high + widened + 1, (width, height))).astype(int)
    filled = np.zeros(shape, bool)
    filled[y0:y1, x0:x1] = True
    return filled


def _shoulder_width(points: Array, is_seen: Array) -> float:
    """About the width of the shoulders in pixels, also of somebody seen from the side."""
    limbs = {(near, far): np.linalg.norm(points[far] - points[near]) for near, far in LIMBS}
    known = [
        2 * length
        for (near, far), length in limbs.items()
        if near == Joint.NECK and far in _SHOULDERS and is_seen[near] and is_seen[far]
    ]
    # A trunk is about one and a half shoulders high, upper arms and shins are shorter than that.
    known += [
        length / 1.5 for (near, far), length in limbs.items() if is_seen[near] and is_seen[far]
    ]
    if known:
        return max(2.0, float(max(known)))
    extent = np.ptp(points[is_seen], axis=0)
    return max(2.0, float(extent.max()) / 4)


def _distance(mask: Array) -> Array:
    """Distance of every pixel to the nearest one of the mask, [h, w] float32; far if it is empty."""
    import cv2

    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)


def _draw_lines(canvas: Array, points: Array, bones: Iterable[tuple[int, int]]) -> None:
    """Lines of a pixel between points [n, 3] that are both sure."""
    for ends in bones:
        near, far = points[list(ends)]
        if min(near[2], far[2]) >= POINT_SCORE:
            _line(canvas, near, far)


def _line(canvas: Array, start: Sequence[float] | Array, end: Sequence[float] | Array) -> None:
    import cv2

    ends = ((round(float(x)), round(float(y))) for x, y in (start[:2], end[:2]))
    cv2.line(canvas, *ends, 1, 1)


def _fill(canvas: Array, corners: Array) -> None:
    import cv2

    cv2.fillPoly(canvas, [np.round(corners[:, :2]).astype(np.int32)], 1)
