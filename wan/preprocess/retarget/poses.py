"""Retarget: the motion of the driving person on a body with the reference's proportions."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ...errors import InputError
from ..pose.track import LIMBS, Array, Joint, PoseTrack, to_fractions, to_pixels
from .bones import (
    ANKLES,
    HIPS,
    SHOULDERS,
    TOES,
    BodyClass,
    Figure,
    body_points,
    bone_lengths,
    cap_feet,
    limit_ratios,
    measure_scale,
    pair_ratios,
    rebuild,
)
from .hands import move_hand

log = logging.getLogger("wan_local")


def retarget(
    driving: PoseTrack,
    reference: PoseTrack,
    edited: tuple[PoseTrack, PoseTrack] | None = None,
    ratio_limit: float | None = None,
) -> PoseTrack:
    """Give every frame the bone lengths of the reference, and its place in the picture.

    The first driving frame in which the person was found is compared with the reference; what it
    says about bones and place holds for all frames.

    Args:
        driving: T frames.
        reference: the character; its first frame counts. Measured in the picture resized to the
            size of the result, with that size.
        edited: driving frame and reference after both persons were put into one neutral pose, see
            `edit.py`. Bones are then compared between these two. Any sizes.
        ratio_limit: None = off (the reference's behaviour); else no bone's ratio leaves the median
            of all by more than this factor. Cures an over-long limb whose joint was measured
            wrongly. 1 or more; 1.5 is cautious.
    Returns:
        T frames in the reference's size. Scores and misses stay. Hands lie on whole pixels, points
        of theirs scored below 0.4 are dropped (zeros). The face is not retargeted: its points are
        zeros, and the driving track is kept as the origin, to cut faces out by.
    Raises:
        InputError: nobody was found in one of the inputs, or `ratio_limit` is below 1.
    Source: Wan2.2 retarget_pose.py, get_retarget_pose. Its correction of the place of frame 0
        compares that frame with itself and is always zero.
    """
    _check(driving, reference, edited, ratio_limit)
    first = Figure.of(driving, _first_seen(driving))
    character = Figure.of(reference, 0)
    scale = measure_scale(first, character).factor
    neutral = (Figure.of(edited[0], 0), Figure.of(edited[1], 0)) if edited else None
    ratios = bone_ratios(first, character, neutral)
    if ratio_limit is not None:
        ratios = limit_ratios(ratios, ratio_limit)
    log.info("retarget: scale %.3f, bone ratios %.2f to %.2f", scale, ratios.min(), ratios.max())

    old_body = body_points(driving.body, *driving.size)
    offset = _offset(first, character.resized(scale), ratios)
    new_body = (rebuild(old_body, cap_feet(old_body, ratios)) - offset) / scale
    hand_scale = ratios[SHOULDERS].max() / scale

    def place_hand(hand: Array) -> Array:
        pixels = to_pixels(hand, *driving.size)
        return to_fractions(move_hand(pixels, old_body, new_body, hand_scale), *reference.size)

    body = np.concatenate([new_body, driving.body[..., 2:]], axis=-1)
    return replace(
        driving,
        width=reference.width,
        height=reference.height,
        body=to_fractions(body, *reference.size),
        left_hand=place_hand(driving.left_hand),
        right_hand=place_hand(driving.right_hand),
        face=np.zeros_like(driving.face),
        boxes=_boxes(new_body, driving.boxes),
        origin=driving.measured,
    )


def bone_ratios(
    driving: Figure,
    reference: Figure,
    edited: tuple[Figure, Figure] | None = None,
) -> Array:
    """Length of each bone of the reference over that of the driving person, as one size.

    Args:
        driving: the driving person.
        reference: the character, not scaled.
        edited: both after editing, not scaled; their bones are then compared instead.
    Returns:
        [19] in the order of `LIMBS`. A bone without length in the driving frame gets the mean of
        the two shoulders. Left and right limbs share the larger ratio, eyes and ears the mean.
    Source: Wan2.2 retarget_pose.py, retarget_pose, calculate_scale_ratio.
    """
    here, there = edited or (driving, reference)
    scale = measure_scale(here, there)
    correction = 1.0
    if edited and not scale.is_measured:
        # Editing may zoom: without a measured height, head and shoulders tell by how much.
        correction = _zoom(reference, there) / _zoom(driving, here)
    old = bone_lengths(here.points)
    new = bone_lengths(there.resized(scale.factor).points) * correction
    is_known = old > 0
    ratios = np.divide(new, old, out=np.ones(len(LIMBS)), where=is_known)
    known_shoulders = [limb for limb in SHOULDERS if is_known[limb]]
    if known_shoulders:
        ratios[~is_known] = ratios[known_shoulders].mean()
    return pair_ratios(ratios)


def _zoom(original: Figure, edited: Figure) -> float:
    """How much larger the original person is than the edited one."""
    widths = [
        (original.head_width, edited.head_width),
        (original.shoulder_width, edited.shoulder_width),
    ]
    zooms = [before / after for before, after in widths if before > 0 and after > 0]
    return max(zooms, default=1.0)


def _offset(first: Figure, character: Figure, ratios: Array) -> Array:
    """What the rebuilt driving body is moved back by, [2] pixels before scaling down."""
    rebuilt = rebuild(first.points[None], ratios)[0]
    target = character.points
    if min(first.body_class, character.body_class) < BodyClass.FULL:
        return rebuilt[Joint.NECK] - target[Joint.NECK]
    # Upstream compares the driving ankles with the middle of the reference's feet, so a body
    # retargeted to itself sinks by half a foot. Kept: results are to match.
    feet = (target[ANKLES, 1] + target[TOES, 1]) / 2
    ground = rebuilt[ANKLES, 1].max() - feet.max()
    middle = rebuilt[HIPS, 0].mean() - target[HIPS, 0].mean()
    return np.array([middle, ground])


def _boxes(body: Array, old: Array) -> Array:
    corners = np.concatenate([body.min(axis=1), body.max(axis=1)], axis=1)
    return np.concatenate([corners, old[:, 4:]], axis=1).astype(np.float32)


def _first_seen(track: PoseTrack) -> int:
    return next(frame for frame in range(len(track)) if frame not in track.misses)


def _check(
    driving: PoseTrack,
    reference: PoseTrack,
    edited: tuple[PoseTrack, PoseTrack] | None,
    ratio_limit: float | None,
) -> None:
    if ratio_limit is not None and not ratio_limit >= 1:
        raise InputError(
            what=f"ratio_limit is {ratio_limit}.",
            why="It is a factor between the largest and the usual bone ratio.",
            fix="Use 1.5, or switch the limit off.",
        )
    named = [("driving video", driving, len(driving)), ("reference image", reference, 1)]
    if edited:
        named.append(("edited driving frame", edited[0], 1))
        named.append(("edited reference image", edited[1], 1))
    for name, track, frames in named:
        if not set(range(frames)) - set(track.misses):
            raise InputError(
                what=f"No person was found in the {name}.",
                why="Retargeting compares the bones of two people, so both must be seen.",
                fix="Choose another picture, lower the detector's threshold, or switch "
                "retarget_flag off.",
            )
