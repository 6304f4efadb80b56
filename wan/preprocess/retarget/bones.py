"""Lengths and proportions of a body: what a retarget measures, and how it rebuilds a pose."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from ..pose.track import LIMBS, Array, Joint, PoseTrack

# Wan2.2 retarget_pose.py: scores that make a joint count when a body is classified, and when its
# height is measured.
CLASS_SCORE = 0.4
HEIGHT_SCORE = 0.5
LONGEST_FOOT = 0.5  # of the calf; Wan2.2 retarget_pose.py, get_scaled_pose

ANKLES = [Joint.RIGHT_ANKLE, Joint.LEFT_ANKLE]
TOES = [Joint.RIGHT_TOE, Joint.LEFT_TOE]
HIPS = [Joint.RIGHT_HIP, Joint.LEFT_HIP]
_HEAD = [Joint.NOSE, Joint.RIGHT_EYE, Joint.LEFT_EYE, Joint.RIGHT_EAR, Joint.LEFT_EAR]
_NEAR = [near for near, _ in LIMBS]
_FAR = [far for _, far in LIMBS]


def _limb(near: Joint, far: Joint) -> int:
    return LIMBS.index((near, far))


def _both_sides(near: str, far: str) -> list[int]:
    """The right and the left limb between two joints named without their side."""

    def joint(side: str, name: str) -> Joint:
        return Joint[name if name in Joint.__members__ else f"{side}_{name}"]

    return [_limb(joint(side, near), joint(side, far)) for side in ("RIGHT", "LEFT")]


SHOULDERS = _both_sides("NECK", "SHOULDER")
"""Limbs from the neck to either side, whose ratio stands for the size of the whole body."""
# Pairs that get one ratio, so that a person seen from the side does not become lopsided: the
# larger one of the limbs, the mean of the head's.
_PAIRED_LIMBS = [
    SHOULDERS,
    _both_sides("SHOULDER", "ELBOW"),
    _both_sides("ELBOW", "WRIST"),
    _both_sides("NECK", "HIP"),
    _both_sides("HIP", "KNEE"),
    _both_sides("KNEE", "ANKLE"),
    _both_sides("ANKLE", "TOE"),
]
_PAIRED_FACE = [_both_sides("NOSE", "EYE"), _both_sides("EYE", "EAR")]
_FEET = list(zip(_both_sides("ANKLE", "TOE"), _both_sides("KNEE", "ANKLE"), strict=True))


class BodyClass(IntEnum):
    """How much of a body is in the picture."""

    HALF = 0
    THREE_QUARTER = 1
    FULL = 2


@dataclass(frozen=True)
class Figure:
    """The body of one frame, measured in a picture of a size of its own."""

    body: Array
    """[20, 3] (x, y, score), x and y as fractions."""
    width: int
    """Pixels."""
    height: int

    @classmethod
    def of(cls, track: PoseTrack, frame: int) -> Figure:
        """The body of one frame of a track."""
        return cls(track.body[frame], track.width, track.height)

    @property
    def points(self) -> Array:
        """[20, 2] float64, pixels."""
        return body_points(self.body, self.width, self.height)

    def resized(self, scale: float) -> Figure:
        """The same pose in a picture `scale` times as large, whole pixels, at least one."""
        return replace(
            self, width=max(1, int(self.width * scale)), height=max(1, int(self.height * scale))
        )

    def is_sure_of(self, joints: list[Joint], score: float) -> bool:
        """Whether all joints score more than `score`."""
        return bool((self.body[joints, 2] > score).all())

    @property
    def body_class(self) -> BodyClass:
        """Full if hips and ankles are above the lower edge and sure, three quarter if hips are."""

        def visible(joints: list[Joint]) -> bool:
            points = self.body[joints]
            return bool((points[:, 1] <= 1).all() and (points[:, 2] >= CLASS_SCORE).all())

        if not visible(HIPS):
            return BodyClass.HALF
        return BodyClass.FULL if visible(ANKLES) else BodyClass.THREE_QUARTER

    @property
    def head_width(self) -> float:
        """Pixels from the leftmost to the rightmost joint of the head."""
        return float(np.ptp(self.points[_HEAD, 0]))

    @property
    def shoulder_width(self) -> float:
        """Pixels between the shoulders."""
        points = self.points
        return float(np.linalg.norm(points[Joint.LEFT_SHOULDER] - points[Joint.RIGHT_SHOULDER]))


def body_points(body: Array, width: int, height: int) -> Array:
    """Places of joints, not rounded: a bone may be short, and its ratio would magnify the error.

    Args:
        body: [..., 20, 3] (x, y, score), x and y as fractions.
        width, height: pixels.
    Returns:
        [..., 20, 2] float64, pixels.
    """
    return body[..., :2].astype(np.float64) * (width, height)


@dataclass(frozen=True)
class Scale:
    """How much larger one body is than another."""

    factor: float
    is_measured: bool
    """False: no height could be measured, and the sizes of the pictures stand in for it."""


def measure_scale(driving: Figure, reference: Figure) -> Scale:
    """Size of the driving body over that of the reference.

    From nose to ankles where both bodies show them, else from nose to hips, else from the
    pictures' sizes (square root of the areas).

    Source: Wan2.2 retarget_pose.py, retarget_pose.
    """
    for lower_end in (ANKLES, HIPS):
        joints = [Joint.NOSE, *lower_end]
        if not all(f.is_sure_of(joints, HEIGHT_SCORE) for f in (driving, reference)):
            continue
        here, there = (
            abs(float(f.points[lower_end, 1].mean() - f.points[Joint.NOSE, 1]))
            for f in (driving, reference)
        )
        if here > 0 and there > 0:  # somebody lying down may have no height at all
            return Scale(here / there, is_measured=True)
    areas = (f.width * f.height for f in (driving, reference))
    here, there = (float(area) ** 0.5 for area in areas)
    return Scale(here / there, is_measured=False)


def bone_lengths(points: Array) -> Array:
    """Lengths of all limbs.

    Args:
        points: [..., 20, 2] pixels.
    Returns:
        [..., 19] pixels, in the order of `LIMBS`.
    """
    return np.linalg.norm(points[..., _FAR, :] - points[..., _NEAR, :], axis=-1)


def pair_ratios(ratios: Array) -> Array:
    """Give left and right limbs one ratio: the larger one, or the mean of eyes and of ears.

    Args:
        ratios: [19].
    Source: Wan2.2 retarget_pose.py, rescale_shorten_skeleton.
    """
    paired = ratios.copy()
    for pair in _PAIRED_LIMBS:
        paired[pair] = paired[pair].max()
    for pair in _PAIRED_FACE:
        paired[pair] = paired[pair].mean()
    return paired


def limit_ratios(ratios: Array, limit: float) -> Array:
    """Keep each ratio within `limit` times, and one `limit`-th of, the median of all.

    The median is the size of the person; what leaves it far behind is a joint measured wrongly.

    Args:
        ratios: [19].
        limit: 1 or more.
    """
    middle = float(np.median(ratios))
    return np.clip(ratios, middle / limit, middle * limit)


def cap_feet(points: Array, ratios: Array) -> Array:
    """Ratios of each frame, with no foot longer than half of its calf.

    Args:
        points: [T, 20, 2] pixels.
        ratios: [19].
    Returns:
        [T, 19].
    """
    lengths = bone_lengths(points)
    capped = np.broadcast_to(ratios, lengths.shape).copy()
    for foot, calf in _FEET:
        longest = LONGEST_FOOT * lengths[:, calf] * ratios[calf]
        is_longer = lengths[:, foot] * ratios[foot] > longest
        capped[is_longer, foot] = longest[is_longer] / lengths[is_longer, foot]
    return capped


def rebuild(points: Array, ratios: Array) -> Array:
    """The same pose with other bone lengths: directions stay, the neck stays where it is.

    Args:
        points: [T, 20, 2] pixels.
        ratios: [T, 19] or [19], new over old length.
    Returns:
        [T, 20, 2] pixels.
    """
    ratios = np.broadcast_to(ratios, (len(points), len(LIMBS)))
    rebuilt = points.copy()
    for limb, (near, far) in enumerate(LIMBS):
        bone = points[:, far] - points[:, near]
        rebuilt[:, far] = rebuilt[:, near] + bone * ratios[:, limb, None]
    return rebuilt
