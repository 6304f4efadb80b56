"""A stand-in for SAM2 that needs no weights: GrabCut, seeded by the pose, carried along by flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..pose.track import Array, PoseTrack
from .cut import Colours, cut_person
from .prior import Prior, frame_prior, with_mask

NOTE = (
    "The person was cut out by GrabCut, a fallback without weights: where colours are alike, parts "
    "of the person may be missing or background be taken along, so look at the masks. SAM2 or a "
    "mask of your own is better."
)
_LONGEST_SIDE = 640
"""Pixels of the frames that are worked on; larger ones are reduced."""
_FIRST_ROUNDS, _NEXT_ROUNDS = 2, 1
_NEWEST = 0.3  # share of a frame's colours in what is known of them from then on
_SOFTNESS = 3.0  # pixels by which a moved mask may be wrong
_REACH = 0.08  # of the height of the mask of the frame before, around it
_LEAST_PART = 0.05  # of the largest part: smaller ones without a joint in them are noise
_LARGEST_HOLE = 0.02  # of the mask; larger ones are the gap between an arm and the body
_COLLAPSE = 0.3  # of the area of the frame before: less, without a pose, is a failure


@dataclass(frozen=True)
class _Cut:
    """A small frame, the person in it and what is known of the colours."""

    picture: Array
    mask: Array
    colours: Colours | None = None


class GrabCut:
    """Cuts the person out by colour, without any weights.

    Around its bones and in the mask of the frame before, the person is likely; how likely, and the
    colours that were learned there, decide. Frames without a pose follow the optical flow. The same
    frames always give the same masks.
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
        before: _Cut | None,
        masks: Array,
        advance: Callable[[], None],
    ) -> _Cut | None:
        """Fill in `masks` frame by frame; gives back the first cut."""
        start = None
        for frame in order:
            small = _reduce(frames[frame])
            before = _cut_frame(small, frame_prior(small.shape[:2], pose, frame), before)
            masks[frame] = _enlarge(before.mask, frames.shape[1:3])
            start = start or before
            advance()
        return start


def _cut_frame(picture: Array, prior: Prior | None, before: _Cut | None) -> _Cut:
    """The person in a small frame.

    Args:
        picture: [h, w, 3] uint8.
        prior: from the pose or a box; None if the person was not found.
        before: the frame before.
    """
    is_seen, moved = prior is not None, None
    if before and before.mask.any():
        moved = _move(before, picture)
    if moved is not None and moved.any():
        # Flow loses what has no texture; the colours find it again if they may look where it was.
        prior = with_mask(prior, moved, _around(moved | before.mask), _SOFTNESS)
    if prior is None:
        return _Cut(picture, np.zeros(picture.shape[:2], bool), before and before.colours)
    known = before.colours if before else None
    mask = cut_person(picture, prior, known, _NEXT_ROUNDS if known else _FIRST_ROUNDS)
    mask = _clean(mask, prior.sure)
    if moved is not None and not is_seen and mask.sum() < _COLLAPSE * moved.sum():
        return _Cut(picture, moved, known)
    colours = Colours.learn(picture, mask, ~mask)
    return _Cut(picture, mask, known.blend(colours, _NEWEST) if known else colours)


def _around(mask: Array) -> Array:
    """The mask and a band around it, as far as its edge may move within a frame."""
    import cv2

    rows, columns = np.nonzero(mask)
    reach = max(2, round(_REACH * max(np.ptp(rows), np.ptp(columns))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)


def _move(before: _Cut, target: Array) -> Array:
    """The mask of a small frame moved along with what moved since."""
    import cv2

    here, there = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (target, before.picture))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(here, there, None)
    height, width = before.mask.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(
        before.mask.astype(np.uint8),
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return moved.astype(bool)


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
