"""Whole-body joints: ViTPose crops, its heat maps decoded, and the joints Wan Animate reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import ModelError
from ...media.sequence import Frames, pixels
from ...progress import Reporter, Silent, phase
from .detect import BATCH
from .onnx import OnnxModel
from .track import FACE_POINTS, HAND_POINTS, Joint, PoseTrack, to_fractions

Array = np.ndarray

WHOLE_BODY_POINTS = 133
BODY_SOURCES: dict[Joint, tuple[int, int]] = {
    Joint.NOSE: (0, 0),
    Joint.NECK: (5, 6),
    Joint.RIGHT_SHOULDER: (6, 6),
    Joint.RIGHT_ELBOW: (8, 8),
    Joint.RIGHT_WRIST: (10, 10),
    Joint.LEFT_SHOULDER: (5, 5),
    Joint.LEFT_ELBOW: (7, 7),
    Joint.LEFT_WRIST: (9, 9),
    Joint.RIGHT_HIP: (12, 12),
    Joint.RIGHT_KNEE: (14, 14),
    Joint.RIGHT_ANKLE: (16, 16),
    Joint.LEFT_HIP: (11, 11),
    Joint.LEFT_KNEE: (13, 13),
    Joint.LEFT_ANKLE: (15, 15),
    Joint.RIGHT_EYE: (2, 2),
    Joint.LEFT_EYE: (1, 1),
    Joint.RIGHT_EAR: (4, 4),
    Joint.LEFT_EAR: (3, 3),
    Joint.LEFT_TOE: (17, 18),
    Joint.RIGHT_TOE: (20, 21),
}
"""Points of COCO-WholeBody whose mean is a joint.

Source: Wan2.2 preprocess/pose2d_utils.py, split_kp2ds_for_aa."""
# Upstream's face starts one earlier, with the right heel, and drops that point wherever it is used.
_FACE = slice(23, 23 + FACE_POINTS)
_LEFT_HAND = slice(91, 91 + HAND_POINTS)
_RIGHT_HAND = slice(112, 112 + HAND_POINTS)

_WIDTH, _HEIGHT = 192, 256
_MAP_WIDTH, _MAP_HEIGHT = 48, 64
_MARGIN = 1.25  # Wan2.2 preprocess/pose2d.py, ViTPose.preprocess, rescale
_LEAST_SIDE = 10  # same place: smaller boxes are ignored
# ImageNet, for colours in 0..255
_MEAN = 255 * np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_STD = 255 * np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
_KERNEL, _BORDER = 11, 5  # Wan2.2 preprocess/pose2d_utils.py, keypoints_from_heatmaps
_SIGMA = 2.0  # OpenCV's own choice for a kernel of 11
_LEAST_HEAT = np.float32(1e-10)
_LOW_HEAT = 1e-7  # far above the floor, whatever the scale


@dataclass(frozen=True)
class PoseCrop:
    """The part of a frame that the pose model sees: 3 to 4 around the box's middle."""

    x: float
    """Middle in pixels of the frame."""
    y: float
    width: float
    """Pixels of the frame, in general no whole number."""
    height: float

    @property
    def edges(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the pixels that are cut out; may lie outside the frame."""
        return (
            round(self.x - self.width / 2),
            round(self.y - self.height / 2),
            round(self.x + self.width / 2),
            round(self.y + self.height / 2),
        )


def plan_crop(box: Sequence[float], width: int, height: int) -> PoseCrop:
    """The crop for a box.

    Args:
        box: x0, y0, x1, y1 in pixels and a score; one without score or under 10 pixels stands
            for the whole frame.
        width, height: pixels of the frame.
    Source: Wan2.2 preprocess/pose2d_utils.py, bbox_from_detector.
    """
    x0, y0, x1, y1, score = (float(number) for number in box)
    if score <= 0 or x1 - x0 < _LEAST_SIDE or y1 - y0 < _LEAST_SIDE:
        x0, y0, x1, y1 = 0.0, 0.0, float(width), float(height)
    aspect = _HEIGHT / _WIDTH
    size = max((x1 - x0) * aspect, y1 - y0) * _MARGIN
    return PoseCrop((x0 + x1) / 2, (y0 + y1) / 2, size / aspect, size)


def cut_crop(frame: Array, crop: PoseCrop) -> Array:
    """Cut out a crop, black outside of the frame, and scale it for the pose model.

    Args:
        frame: [H, W, 3] uint8 RGB.
        crop: from `plan_crop`.
    Returns:
        [3, 256, 192] float32 in 0..255.
    Source: Wan2.2 preprocess/pose2d_utils.py, crop.
    """
    import cv2

    x0, y0, x1, y1 = crop.edges
    rows, columns = frame.shape[:2]
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, columns), min(y1, rows)
    cut = np.zeros((y1 - y0, x1 - x0, 3), np.float32)
    if left < right and top < bottom:
        cut[top - y0 : bottom - y0, left - x0 : right - x0] = frame[top:bottom, left:right]
    small = cv2.resize(cut, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_LINEAR)
    return np.stack(cv2.split(small))  # H W C -> C H W


def decode_heatmaps(heatmaps: Array, crops: Sequence[PoseCrop]) -> Array:
    """Joints from heat maps, finer than their cells ("DARK").

    The peak's neighbourhood is blurred and its logarithm taken for a parabola, whose top is the
    joint.

    Args:
        heatmaps: [N, 133, 64, 48] float32.
        crops: N, where the maps lie in the frames.
    Returns:
        [N, 133, 3] float32: x and y in pixels of the frame, and the map's maximum as the score.
        A map without anything above 0 gives the cell (-1, -1).
    Source: Wan2.2 preprocess/pose2d_utils.py, keypoints_from_heatmaps with unbiased=True.
    """
    count, points = heatmaps.shape[:2]
    maps = heatmaps.reshape(count * points, _MAP_HEIGHT, _MAP_WIDTH)
    flat = maps.reshape(len(maps), -1)
    peaks = flat.argmax(axis=1)
    scores = flat[np.arange(len(flat)), peaks]
    cells = np.stack([peaks % _MAP_WIDTH, peaks // _MAP_WIDTH], axis=1)
    cells[scores <= 0] = -1
    places = cells + _refine(maps, cells, scores)
    places = places.reshape(count, points, 2)
    size = np.array([[crop.width, crop.height] for crop in crops])[:, None]
    middle = np.array([[crop.x, crop.y] for crop in crops])[:, None]
    places = places * size / (_MAP_WIDTH, _MAP_HEIGHT) + middle - size / 2
    return np.concatenate([places, scores.reshape(count, points, 1)], axis=2).astype(np.float32)


def _refine(maps: Array, cells: Array, scores: Array) -> Array:
    """One Newton step from each peak, [n, 2] in cells; nothing near the maps' edges."""
    x, y = cells.T
    inside = (x > 1) & (x < _MAP_WIDTH - 2) & (y > 1) & (y < _MAP_HEIGHT - 2)
    steps = np.zeros((len(maps), 2))
    chosen = np.flatnonzero(inside)
    near = _blur_around(maps[chosen], cells[chosen], scores[chosen])
    near = np.log(np.maximum(near, _LEAST_HEAT))  # [n, 5, 5], the peak in the middle

    dx, dy = (near[:, 2, 3] - near[:, 2, 1]) / 2, (near[:, 3, 2] - near[:, 1, 2]) / 2
    dxx = (near[:, 2, 4] - 2 * near[:, 2, 2] + near[:, 2, 0]) / 4
    dyy = (near[:, 4, 2] - 2 * near[:, 2, 2] + near[:, 0, 2]) / 4
    dxy = (near[:, 3, 3] - near[:, 1, 3] - near[:, 3, 1] + near[:, 1, 1]) / 4
    # whether it is curved at all is asked in float32, as the reference does
    curved = dxx * dyy - dxy**2
    bent = np.flatnonzero((curved != 0) & np.isfinite(curved))
    dx, dy, dxx, dyy, dxy = (part[bent].astype(np.float64) for part in (dx, dy, dxx, dyy, dxy))
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=1)
    steps[chosen[bent]] = step / (dxx * dyy - dxy**2)[:, None]
    return steps


def _blur_around(maps: Array, cells: Array, scores: Array) -> Array:
    """Blurred 5 x 5 cells around each peak, as if the blurred map's maximum were the peak's.

    Only the windows that matter are blurred. The map's maximum is that of the window, except in
    maps so uneven that some of the window falls to the floor, where the exact scale counts.
    """
    import cv2

    kernel = cv2.getGaussianKernel(_KERNEL, _SIGMA).ravel()
    band = np.zeros((5, _KERNEL + 4))
    for row in range(5):
        band[row, row : row + _KERNEL] = kernel
    span = np.arange(_KERNEL + 4) - 2 - _BORDER
    rows, columns = cells[:, 1, None, None] + span[:, None], cells[:, 0, None, None] + span
    places = np.clip(rows, 0, _MAP_HEIGHT - 1), np.clip(columns, 0, _MAP_WIDTH - 1)
    windows = maps[np.arange(len(maps))[:, None, None], places[0], places[1]]
    windows *= (places[0] == rows) & (places[1] == columns)  # nothing outside of the map
    near = (band @ windows @ band.T).astype(np.float32)
    for uneven in np.flatnonzero((near < _LOW_HEAT).any(axis=(1, 2))):
        padded = np.pad(maps[uneven], _BORDER)
        whole = cv2.GaussianBlur(padded, (_KERNEL, _KERNEL), _SIGMA)
        highest = whole[_BORDER:-_BORDER, _BORDER:-_BORDER].max()
        if highest != 0:
            near[uneven] *= scores[uneven] / highest
    return near


def measure_points(
    frames: Frames,
    boxes: Array,
    model: OnnxModel,
    batch: int = BATCH,
    reporter: Reporter | None = None,
) -> Array:
    """The 133 points of one person in each frame.

    Args:
        frames: T frames.
        boxes: [T, 5] from `choose_boxes`.
        model: a whole-body pose model.
        batch: frames per call; changes nothing but the speed.
        reporter: one phase, one update a frame.
    Returns:
        [T, 133, 3] float32: x and y in pixels, and the score.
    Raises:
        ModelError: the model's output is of another shape, or holds no numbers.
    """
    points = np.zeros((len(frames), WHOLE_BODY_POINTS, 3), np.float32)
    room = np.empty((min(batch, len(frames)), 3, _HEIGHT, _WIDTH), np.float32)
    with phase(reporter or Silent(), "measure the pose", len(frames)) as advance:
        for start in range(0, len(frames), batch):
            numbers = range(start, min(start + batch, len(frames)))
            fed, crops = room[: len(numbers)], []
            for place, number in enumerate(numbers):
                frame = pixels(frames, number)
                crops.append(plan_crop(boxes[number], frame.shape[1], frame.shape[0]))
                fed[place] = cut_crop(frame, crops[-1])
            fed -= _MEAN
            fed /= _STD
            points[start : start + len(numbers)] = _measure(model, fed, crops, reporter)
            for _ in numbers:
                advance()
    return points


def build_track(
    points: Array, boxes: Array, misses: tuple[int, ...], width: int, height: int
) -> PoseTrack:
    """Order the 133 points as Wan Animate reads them.

    A body that lies outside of the frame as a whole is replaced by that of the frame before.

    Args:
        points: [T, 133, 3] x, y in pixels, score.
        boxes: [T, 5] pixels and score.
        misses: numbers of the frames without the person.
        width, height: pixels of the frames.
    Source: Wan2.2 preprocess/pose2d_utils.py, load_pose_metas_from_kp2ds_seq.
    """
    fractions = to_fractions(points, width, height)
    first, second = np.array([BODY_SOURCES[joint] for joint in Joint]).T
    body = (fractions[:, first] + fractions[:, second]) / 2
    for number in range(1, len(body)):
        if (body[number, :, :2].min(axis=1) < 0).all():
            body[number] = body[number - 1]
    return PoseTrack(
        width=width,
        height=height,
        body=body,
        left_hand=fractions[:, _LEFT_HAND],
        right_hand=fractions[:, _RIGHT_HAND],
        face=fractions[:, _FACE],
        boxes=boxes,
        misses=misses,
    )


def _measure(
    model: OnnxModel, fed: Array, crops: Sequence[PoseCrop], reporter: Reporter | None
) -> Array:
    heatmaps = model.run(fed, reporter)
    wanted = (WHOLE_BODY_POINTS, _MAP_HEIGHT, _MAP_WIDTH)
    if heatmaps.shape[1:] != wanted:
        raise ModelError(
            what=f"{model.name} gave heat maps of the shape {heatmaps.shape[1:]}, not {wanted}.",
            why="Joints are read from 133 maps of 64 x 48 cells.",
            fix="Choose ViTPose-H or ViTPose-L whole-body as the pose model.",
        )
    points = decode_heatmaps(heatmaps, crops)
    if not np.isfinite(points).all():
        raise ModelError(
            what=f"{model.name} gave heat maps that are not numbers.",
            why="Half precision or a broken driver can do that.",
            fix="Run the pose model on the CPU, or use its float32 file.",
        )
    return points
