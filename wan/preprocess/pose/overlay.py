"""What was measured, drawn over the frames: to see at a glance whether it is right."""

from __future__ import annotations

import numpy as np

from ...media.sequence import Frames, pixels
from ...progress import Reporter, Silent, phase
from .face import FaceBoxes
from .skeleton import draw_frame
from .track import DRAW_THRESHOLD, PoseTrack

Array = np.ndarray

_DIMMED = 1  # how often the frame's brightness is halved, so that the skeleton stands out
_BOX_COLOUR = (255, 255, 255)
_MISSED = (255, 60, 60)
_FACE_COLOUR = (255, 220, 0)
_FARTHEST = 9999  # pixels; OpenCV's drawing overflows further out


def draw_overlay(
    frame: Array,
    track: PoseTrack,
    number: int,
    faces: FaceBoxes | None = None,
    threshold: float = DRAW_THRESHOLD,
) -> Array:
    """Skeleton, person box and face box over one frame.

    Boxes are white and yellow; red where nothing was found and a rule gave the box.

    Args:
        frame: [H, W, 3] uint8 RGB of the size that was measured.
        track: the pose.
        number: of the frame.
        faces: from `find_faces`; None leaves the face box out.
        threshold: see `draw_skeleton`.
    Returns:
        [H, W, 3] uint8 RGB.
    """
    import cv2

    height, width = frame.shape[:2]
    picture = frame >> _DIMMED
    skeleton = draw_frame(track, number, width, height, threshold)
    drawn = skeleton[..., 0] | skeleton[..., 1] | skeleton[..., 2]
    cv2.copyTo(skeleton, drawn, picture)
    shown = [(track, _BOX_COLOUR)] + ([] if faces is None else [(faces, _FACE_COLOUR)])
    for found, colour in shown:
        _draw_box(picture, found.boxes[number], _MISSED if number in found.misses else colour)
    return picture


def draw_overlays(
    frames: Frames,
    track: PoseTrack,
    faces: FaceBoxes | None = None,
    threshold: float = DRAW_THRESHOLD,
    reporter: Reporter | None = None,
) -> Array:
    """`draw_overlay` for a video.

    Args:
        frames: T frames of one size.
        track, faces, threshold: see `draw_overlay`.
        reporter: one phase, one update a frame.
    Returns:
        [T, H, W, 3] uint8 RGB.
    """
    pictures = np.empty((len(track), *pixels(frames, 0).shape), np.uint8)
    with phase(reporter or Silent(), "draw the overlay", len(track)) as advance:
        for number, picture in enumerate(pictures):
            picture[:] = draw_overlay(pixels(frames, number), track, number, faces, threshold)
            advance()
    return pictures


def _draw_box(picture: Array, box: Array, colour: tuple[int, int, int]) -> None:
    import cv2

    height, width = picture.shape[:2]
    # the last pixel inside, so that a box of the whole frame shows all four sides
    corners = np.clip(box[:4].astype(int) - (0, 0, 1, 1), -_FARTHEST, _FARTHEST).tolist()
    cv2.rectangle(picture, corners[:2], corners[2:], colour, max(min(width, height) // 300, 1))
