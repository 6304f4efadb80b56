"""Skeleton pictures: the drawing that Wan Animate was trained on."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np

from ...media.resize import letterbox
from ...media.sequence import MadeFrames
from ...progress import Reporter, Silent, phase
from .track import DRAW_THRESHOLD, HAND_BONES, LIMBS, Joint, PoseTrack, to_pixels

Array = np.ndarray

# Wan2.2 preprocess/human_visualization.py, draw_aapose_new, colors: one a joint; a limb has the
# colour of its own number in `LIMBS`.
COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
    (200, 200, 0),
    (100, 100, 0),
)
_LIMB_COLOURS = tuple(tuple(int(part * 0.6) for part in colour) for colour in COLOURS)
_BONE_COLOURS = tuple(
    tuple(255 * part for part in colorsys.hsv_to_rgb(bone / len(HAND_BONES), 1.0, 1.0))
    for bone in range(len(HAND_BONES))
)
_HAND_POINT_COLOUR = (0, 0, 255)
# A point thousands of pixels outside is no joint, and OpenCV's drawing overflows on it.
_FARTHEST = 30_000


def stick_widths(width: int, height: int) -> tuple[int, int]:
    """Half thickness of body limbs and thickness of hand bones, in pixels of the canvas.

    Source: Wan2.2 preprocess/human_visualization.py, stickwidth_type "v2".
    """
    body = max(int(min(width, height) / 200) - 1, 1)
    return body, max(body // 2, 1)


def draw_skeleton(
    body: Array,
    left_hand: Array,
    right_hand: Array,
    width: int,
    height: int,
    threshold: float = DRAW_THRESHOLD,
) -> Array:
    """Draw one pose on black. The face's 68 points are not drawn; head and feet are.

    Args:
        body: [20, 3] x, y in pixels of the canvas, score; indexed by `Joint`.
        left_hand, right_hand: [21, 3], likewise.
        width, height: pixels of the canvas.
        threshold: points of a lower score are left out; the reference has 0.5.
    Returns:
        [height, width, 3] uint8 RGB.
    Source: Wan2.2 preprocess/human_visualization.py, draw_aapose_new and draw_handpose_new.
    """
    canvas = np.zeros((height, width, 3), np.uint8)
    body_stick, hand_stick = stick_widths(width, height)
    _draw_body(canvas, body, body_stick, threshold)
    for hand in (left_hand, right_hand):
        _draw_hand(canvas, hand, hand_stick, threshold)
    return canvas


def draw_frame(
    track: PoseTrack,
    number: int,
    width: int | None = None,
    height: int | None = None,
    threshold: float = DRAW_THRESHOLD,
) -> Array:
    """Draw one frame of a track.

    Args:
        track: any.
        number: of the frame.
        width, height: pixels of the canvas, the track's own by default; the pose is stretched.
        threshold: see `draw_skeleton`.
    Returns:
        [height, width, 3] uint8 RGB.
    """
    width, height = width or track.width, height or track.height
    body, left_hand, right_hand = (
        to_pixels(points[number], width, height)
        for points in (track.body, track.left_hand, track.right_hand)
    )
    return draw_skeleton(body, left_hand, right_hand, width, height, threshold)


def draw_track(
    track: PoseTrack,
    width: int | None = None,
    height: int | None = None,
    threshold: float = DRAW_THRESHOLD,
    reporter: Reporter | None = None,
) -> Array:
    """Draw every frame of a track.

    Args:
        track: T frames.
        width, height, threshold: see `draw_frame`.
        reporter: one phase, one update a frame.
    Returns:
        [T, height, width, 3] uint8 RGB.
    """
    width, height = width or track.width, height or track.height
    video = np.empty((len(track), height, width, 3), np.uint8)
    with phase(reporter or Silent(), "draw the skeleton", len(track)) as advance:
        for number in range(len(track)):
            video[number] = draw_frame(track, number, width, height, threshold)
            advance()
    return video


def pose_video(
    track: PoseTrack, width: int, height: int, threshold: float = DRAW_THRESHOLD
) -> MadeFrames:
    """The skeleton video that Wan Animate reads, each frame drawn when it is asked for.

    It is drawn in the size that was measured, then scaled into width x height in the middle of
    black.

    Args:
        track: T frames.
        width, height: pixels of the video that will be sampled.
        threshold: see `draw_skeleton`.
    Returns:
        T frames [height, width, 3] uint8 RGB.
    Source: Wan2.2 preprocess/process_pipepline.py.
    """

    def draw(number: int) -> Array:
        drawn = draw_frame(track, number, threshold=threshold)
        return drawn if track.size == (width, height) else letterbox(drawn, width, height)

    return MadeFrames(len(track), draw)


def _draw_body(canvas: Array, body: Array, stick: int, threshold: float) -> None:
    import cv2

    shown = _shown(body, threshold)
    for (near, far), colour in zip(LIMBS, _LIMB_COLOURS, strict=False):
        if not (shown[near] and shown[far]):
            continue
        x, y = body[[near, far], 0], body[[near, far], 1]
        centre = int(x.mean()), int(y.mean())
        half = int(((x[0] - x[1]) ** 2 + (y[0] - y[1]) ** 2) ** 0.5 / 2)
        angle = int(math.degrees(math.atan2(y[0] - y[1], x[0] - x[1])))
        outline = cv2.ellipse2Poly(centre, (half, stick), angle, 0, 360, 1)
        cv2.fillConvexPoly(canvas, outline, colour)
    for joint, colour in zip(Joint, COLOURS, strict=True):
        if shown[joint]:
            _dot(canvas, body[joint], stick, colour)


def _draw_hand(canvas: Array, hand: Array, stick: int, threshold: float) -> None:
    import cv2

    # a hand's point in the first row or column of pixels counts as unseen
    shown = _shown(hand, threshold) & (hand[:, :2] >= 1).all(axis=1)
    for (near, far), colour in zip(HAND_BONES, _BONE_COLOURS, strict=True):
        if shown[near] and shown[far]:
            ends = [(int(hand[end, 0]), int(hand[end, 1])) for end in (near, far)]
            cv2.line(canvas, *ends, colour, thickness=stick)
    for point in hand[shown]:
        _dot(canvas, point, stick, _HAND_POINT_COLOUR)


def _shown(points: Array, threshold: float) -> Array:
    near = np.abs(points[:, :2]) < _FARTHEST  # false for what is no number
    return (points[:, 2] >= threshold) & near.all(axis=1)


def _dot(canvas: Array, point: Array, radius: int, colour: Any) -> None:
    import cv2

    cv2.circle(canvas, (int(point[0]), int(point[1])), radius, colour, thickness=-1)
