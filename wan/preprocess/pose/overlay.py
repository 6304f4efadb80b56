"""What was measured, drawn over the frames: to see at a glance whether it is right."""

from __future__ import annotations

import numpy as np

from ...media.sequence import Frames, pixels
from ...progress import Reporter, Silent, phase
from .face import FaceBoxes
from .skeleton import draw_frame
from .track import DRAW_THRESHOLD, PoseTrack

Array = np.ndarray

_DIMMED = 2  # the frame's brightness is divided by it, so that the skeleton stands out
_BOX_COLOUR = (255, 255, 255)
_MISSED_COLOUR = (255, 60, 60)
_FACE_COLOUR = (255, 220, 0)


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
    picture = frame // _DIMMED
    skeleton = draw_frame(track, number, width, height, threshold)
    drawn = skeleton[..., 0] | skeleton[..., 1] | skeleton[..., 2]
    cv2.copyTo(skeleton, drawn, picture)
    thickness = max(min(width, height) // 300, 1)
    boxes = (
        [(track, _BOX_COLOUR)] if faces is None else [(track, _BOX_COLOUR), (faces, _FACE_COLOUR)]
    )
    for source, colour in boxes:
        box, is_missed = source.boxes[number, :4], number in source.misses
        # the last pixel inside, so that a box of the whole frame shows all four sides
        x0, y0, x1, y1 = np.clip(np.asarray(box).astype(int) - (0, 0, 1, 1), -9999, 9999).tolist()
        cv2.rectangle(
            picture, (x0, y0), (x1, y1), _MISSED_COLOUR if is_missed else colour, thickness
        )
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
    pictures: list[Array] = []
    with phase(reporter or Silent(), "draw the overlay", len(track)) as advance:
        for number in range(len(track)):
            pictures.append(draw_overlay(pixels(frames, number), track, number, faces, threshold))
            advance()
    return np.stack(pictures)
