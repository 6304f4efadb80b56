"""Face pictures: where the face is, what counts when it is not seen, and the 512 x 512 crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import GeometryError
from ...media.sequence import Frames, MadeFrames, pixels
from ...progress import Reporter, Silent, phase
from .track import PoseTrack, to_pixels

Array = np.ndarray

FACE_SIZE = 512
_GROWTH = 1.3  # of the area. Wan2.2 preprocess/process_pipepline.py, scale=1.3
_FALLBACK_SIDE, _FALLBACK_TOP = 0.3, 0.1  # kijai/ComfyUI-WanAnimatePreprocess nodes.py
_FEWEST_POINTS = 5  # ours: fewer sure points are no face
_STEADY_SHARE = 90  # ours: per cent of the frames whose face fits a box of constant size


@dataclass(frozen=True)
class FaceBoxes:
    """Where to cut the face out of each frame."""

    boxes: Array
    """[T, 4] int x0, y0, x1, y1 in pixels, inside the frame and never empty."""
    misses: tuple[int, ...]
    """Numbers of the frames in which no face was seen, and another frame's box is used."""


def face_box(
    points: Array, width: int, height: int, min_score: float = 0.0
) -> tuple[int, int, int, int] | None:
    """The box around a face, with more room above than below.

    Args:
        points: [68, 3] x, y in pixels, score.
        width, height: pixels of the frame.
        min_score: points below are ignored; 0 = use all, as the reference does.
    Returns:
        x0, y0, x1, y1 in whole pixels inside the frame, or None where nothing is left of it.
    Source: Wan2.2 preprocess/utils.py, get_face_bboxes.
    """
    if min_score > 0:
        points = points[points[:, 2] >= min_score]
    if len(points) < _FEWEST_POINTS or not np.isfinite(points).all():
        return None
    (left, top), (right, bottom) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    more = np.sqrt(_GROWTH) - 1
    side, above = (right - left) * more / 2, (bottom - top) * more / 4
    x0, x1 = int(max(left - side, 0)), int(min(right + side, width))
    y0, y1 = int(max(top - 3 * above, 0)), int(min(bottom + above, height))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def fallback_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The box used before any face was seen: upper middle of the frame."""
    side = max(int(_FALLBACK_SIDE * min(width, height)), 1)
    x, y = (width - side) // 2, int(_FALLBACK_TOP * height)
    return x, y, x + side, y + side


def find_faces(track: PoseTrack, min_score: float = 0.0, steady: float = 0.0) -> FaceBoxes:
    """The face's box in each frame of a track.

    A frame without a face gets the last box there was, and before the first one a fixed box in
    the upper middle.

    Args:
        track: T frames.
        min_score: points of a lower score are ignored, and a face of fewer than five sure points
            is not seen; 0 = off (the reference's behaviour).
        steady: standard deviation in frames by which the box's middle is smoothed, with one size
            for all frames; 0 = off (the reference's behaviour).
    """
    boxes: list[tuple[int, int, int, int]] = []
    misses: list[int] = []
    last = fallback_box(track.width, track.height)
    for number, face in enumerate(to_pixels(track.face, track.width, track.height)):
        found = face_box(face, track.width, track.height, min_score)
        if found is None:
            misses.append(number)
        last = found or last
        boxes.append(last)
    table = np.array(boxes, np.int64).reshape(-1, 4)
    if steady > 0 and len(misses) < len(boxes):
        table = _steady_boxes(table, misses, steady, track.width, track.height)
    return FaceBoxes(table, tuple(misses))


def crop_faces(frames: Frames, faces: FaceBoxes, reporter: Reporter | None = None) -> Array:
    """Cut the faces out and stretch them to a square.

    Args:
        frames: T frames of the size that was measured.
        faces: from `find_faces`.
        reporter: one phase, one update a frame.
    Returns:
        [T, 512, 512, 3] uint8 RGB.
    Raises:
        GeometryError: another number of frames, or a frame that does not hold its box.
    """
    video = face_video(frames, faces)
    crops = np.empty((len(video), FACE_SIZE, FACE_SIZE, 3), np.uint8)
    with phase(reporter or Silent(), "cut out the face", len(video)) as advance:
        for number in range(len(video)):
            crops[number] = video[number]
            advance()
    return crops


def face_video(frames: Frames, faces: FaceBoxes) -> MadeFrames:
    """`crop_faces` frame by frame, each when it is asked for.

    Raises:
        GeometryError: another number of frames; later, a frame that does not hold its box.
    """
    if len(frames) != len(faces.boxes):
        raise GeometryError(
            what=f"There are {len(frames)} frames and {len(faces.boxes)} face boxes.",
            why="Each frame needs its own box.",
            fix="Measure the faces in the same frames that they are cut from.",
        )
    return MadeFrames(len(frames), lambda number: _cut_face(frames, faces, number))


def _cut_face(frames: Frames, faces: FaceBoxes, number: int) -> Array:
    import cv2

    frame, (x0, y0, x1, y1) = pixels(frames, number), faces.boxes[number]
    if x1 > frame.shape[1] or y1 > frame.shape[0]:
        raise GeometryError(
            what=f"Frame {number} is {frame.shape[1]}x{frame.shape[0]}, and its face box "
            f"reaches to {x1}x{y1}.",
            why="The boxes were measured in frames of another size.",
            fix="Measure the faces in the same frames that they are cut from.",
        )
    return cv2.resize(frame[y0:y1, x0:x1], (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR)


def _steady_boxes(boxes: Array, misses: list[int], sigma: float, width: int, height: int) -> Array:
    """One size for all frames, and a middle that moves smoothly."""
    seen = np.ones(len(boxes), bool)
    seen[misses] = False
    sizes = boxes[:, 2:] - boxes[:, :2]
    size = np.percentile(sizes[seen], _STEADY_SHARE, axis=0).round().astype(np.int64)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    apart = np.arange(len(boxes))[:, None] - np.arange(len(boxes))
    weights = np.exp(-0.5 * (apart / sigma) ** 2) * np.where(seen, 1.0, 1e-6)
    smooth = weights @ middles / weights.sum(axis=1, keepdims=True)
    corner = np.round(smooth - size / 2).astype(np.int64)
    corner = np.clip(corner, 0, np.array([width, height]) - size)
    return np.concatenate([corner, corner + size], axis=1)
