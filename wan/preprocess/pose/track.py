"""The pose of one person through a video: named joints, their limbs, and simple transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from ...errors import GeometryError

Array = np.ndarray

HAND_POINTS = 21
FACE_POINTS = 68
DRAW_THRESHOLD = 0.5  # Wan2.2 human_visualization.py, draw_aapose_by_meta_new
# Float32 coordinates between 0 and 1 are good to this many decimals of a pixel up to 8K pictures.
_PIXEL_DECIMALS = 3


class Joint(IntEnum):
    """Body joints in the order of `PoseTrack.body`. Left and right are the person's own.

    Source: Wan2.2 human_visualization.py, new_kep_list; the first 18 are OpenPose's COCO-18.
    """

    NOSE = 0
    NECK = 1
    RIGHT_SHOULDER = 2
    RIGHT_ELBOW = 3
    RIGHT_WRIST = 4
    LEFT_SHOULDER = 5
    LEFT_ELBOW = 6
    LEFT_WRIST = 7
    RIGHT_HIP = 8
    RIGHT_KNEE = 9
    RIGHT_ANKLE = 10
    LEFT_HIP = 11
    LEFT_KNEE = 12
    LEFT_ANKLE = 13
    RIGHT_EYE = 14
    LEFT_EYE = 15
    RIGHT_EAR = 16
    LEFT_EAR = 17
    LEFT_TOE = 18
    RIGHT_TOE = 19


LIMBS: tuple[tuple[Joint, Joint], ...] = (
    (Joint.NECK, Joint.RIGHT_SHOULDER),
    (Joint.NECK, Joint.LEFT_SHOULDER),
    (Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW),
    (Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST),
    (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW),
    (Joint.LEFT_ELBOW, Joint.LEFT_WRIST),
    (Joint.NECK, Joint.RIGHT_HIP),
    (Joint.RIGHT_HIP, Joint.RIGHT_KNEE),
    (Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE),
    (Joint.NECK, Joint.LEFT_HIP),
    (Joint.LEFT_HIP, Joint.LEFT_KNEE),
    (Joint.LEFT_KNEE, Joint.LEFT_ANKLE),
    (Joint.NECK, Joint.NOSE),
    (Joint.NOSE, Joint.RIGHT_EYE),
    (Joint.RIGHT_EYE, Joint.RIGHT_EAR),
    (Joint.NOSE, Joint.LEFT_EYE),
    (Joint.LEFT_EYE, Joint.LEFT_EAR),
    (Joint.LEFT_ANKLE, Joint.LEFT_TOE),
    (Joint.RIGHT_ANKLE, Joint.RIGHT_TOE),
)
"""Limbs as (near end, far end), nearer to the neck first, in the order they are drawn and rebuilt.

Source: Wan2.2 human_visualization.py, draw_aapose_new, limbSeq."""

HAND_BONES: tuple[tuple[int, int], ...] = tuple(
    (0 if step == 0 else 4 * finger + step, 4 * finger + step + 1)
    for finger in range(5)
    for step in range(4)
)
"""Bones of a hand as point numbers: wrist 0, then four points a finger, thumb first."""


@dataclass(frozen=True)
class PoseTrack:
    """Joints of one person in each frame of a video, or in one picture (T = 1).

    Every point is (x, y, score): x and y are fractions of the frame's width and height and lie
    outside 0..1 where the joint is outside the frame; the score is the pose model's raw
    confidence, about 0..1, sometimes a little above. Low scores are kept, never blanked.

    Raises:
        GeometryError: the arrays' shapes do not fit each other.
    """

    width: int
    """Pixels of the frames that were measured."""
    height: int
    body: Array
    """[T, 20, 3] float32, indexed by `Joint`."""
    left_hand: Array
    """[T, 21, 3] float32, point 0 is the wrist. Left is the person's own."""
    right_hand: Array
    """[T, 21, 3] float32."""
    face: Array
    """[T, 68, 3] float32, the usual 68 landmarks."""
    boxes: Array
    """[T, 5] float32: x0, y0, x1, y1 in pixels and the detector's score.

    In a missed frame it is what a rule gave: the whole frame with the score -1, or the box of
    the last frame in which a followed person was seen."""
    misses: tuple[int, ...] = ()
    """Numbers of the frames in which the person was not found."""
    origin: PoseTrack | None = None
    """What was measured in the driving video, if this was made from it for another body. Faces
    are cut out by it."""

    @property
    def measured(self) -> PoseTrack:
        """Where the person is in the driving video: the origin, or this track itself."""
        return self.origin or self

    def __post_init__(self) -> None:
        frames = len(self.body)
        wanted = {
            "body": (frames, len(Joint), 3),
            "left_hand": (frames, HAND_POINTS, 3),
            "right_hand": (frames, HAND_POINTS, 3),
            "face": (frames, FACE_POINTS, 3),
            "boxes": (frames, 5),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise GeometryError(
                    what=f"{name} of a pose track is {getattr(self, name).shape}, not {shape}.",
                    why="All parts of a track hold the same frames and a fixed set of points.",
                    fix="Build the track with measure_poses or read_openpose.",
                )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.body)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the measured frames in pixels."""
        return self.width, self.height


def to_pixels(points: Array, width: float, height: float) -> Array:
    """Fractions to pixels.

    Args:
        points: [..., 3] (x, y, score) with x and y as fractions of the size.
        width, height: pixels.
    Returns:
        [..., 3] float64. Rounded to a thousandth of a pixel, so that a whole pixel that went
        through float32 fractions is whole again and not a hair below, where `int` would lose it.
    """
    pixels = points.astype(np.float64)
    pixels[..., :2] = np.round(pixels[..., :2] * (width, height), _PIXEL_DECIMALS)
    return pixels


def to_fractions(points: Array, width: float, height: float) -> Array:
    """Pixels to fractions, the reverse of `to_pixels`.

    Args:
        points: [..., 3] (x, y, score) in pixels.
        width, height: pixels.
    Returns:
        [..., 3] float32.
    """
    fractions = np.array(points, dtype=np.float64)
    fractions[..., :2] /= (width, height)
    return fractions.astype(np.float32)


def select_frames(track: PoseTrack, frames: Sequence[int]) -> PoseTrack:
    """A track of the named frames, in that order; misses are renumbered.

    Args:
        track: T frames.
        frames: numbers below T; one may occur more than once.
    """
    chosen = list(frames)
    missed = set(track.misses)
    return replace(
        track,
        body=track.body[chosen],
        left_hand=track.left_hand[chosen],
        right_hand=track.right_hand[chosen],
        face=track.face[chosen],
        boxes=track.boxes[chosen],
        misses=tuple(place for place, frame in enumerate(chosen) if frame in missed),
        origin=track.origin and select_frames(track.origin, chosen),
    )


def smooth_track(track: PoseTrack, sigma: float) -> PoseTrack:
    """Calm jitter: each point becomes a mean over its neighbours in time, weighted by score.

    A point the model was sure of counts more than a doubtful one, so a frame without the person
    takes its pose from the frames around it. Scores and boxes stay as they are.

    Args:
        track: any number of frames.
        sigma: standard deviation of the Gaussian in frames, 0 = off (the reference's behaviour).
            About 1 removes jitter and keeps fast moves.
    """
    if sigma <= 0 or len(track) < 2:
        return track
    return replace(
        track,
        body=_smooth(track.body, sigma),
        left_hand=_smooth(track.left_hand, sigma),
        right_hand=_smooth(track.right_hand, sigma),
        face=_smooth(track.face, sigma),
    )


def drop_uncertain(
    track: PoseTrack, body: float = 0.0, hands: float = 0.0, face: float = 0.0
) -> PoseTrack:
    """Set the score of every point below a threshold to 0, which later steps take for unseen.

    Args:
        track: any number of frames.
        body, hands, face: least score of a point of that part; 0 = off (the reference's
            behaviour).
    """

    def cut(points: Array, threshold: float) -> Array:
        if threshold <= 0:
            return points
        points = points.copy()
        scores = points[..., 2]
        scores[scores < threshold] = 0
        return points

    return replace(
        track,
        body=cut(track.body, body),
        left_hand=cut(track.left_hand, hands),
        right_hand=cut(track.right_hand, hands),
        face=cut(track.face, face),
    )


def describe_misses(misses: Mapping[str, Sequence[int]], frames: int) -> str | None:
    """One line that lists what was not found and where, for one warning a run.

    Args:
        misses: what was looked for ("person", "face", "mask") and the frames without it.
        frames: number of frames of the video.
    Returns:
        For example "No face in 3 of 77 frames (4-5, 9).", or None where nothing was missed.
    """
    lines = [
        f"No {name} in {len(numbers)} of {frames} frames ({_ranges(numbers)})."
        for name, numbers in misses.items()
        if numbers
    ]
    return " ".join(lines) or None


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _smooth(points: Array, sigma: float) -> Array:
    radius = int(np.ceil(3 * sigma))  # beyond three sigmas a Gaussian is nothing
    weights = np.maximum(points[..., 2:], 0).astype(np.float64)
    weighted = points[..., :2] * weights
    total, norm = np.zeros_like(weighted), np.zeros_like(weights)
    frames = len(points)
    for shift in range(-radius, radius + 1):
        here = slice(max(0, -shift), min(frames, frames - shift))
        there = slice(max(0, shift), min(frames, frames + shift))
        if here.start >= here.stop:
            continue
        tap = np.exp(-0.5 * (shift / sigma) ** 2)
        total[here] += tap * weighted[there]
        norm[here] += tap * weights[there]
    smooth = points.copy()
    # a point that nobody ever saw stays where it was
    seen = norm[..., 0] > 0
    smooth[..., :2][seen] = (total[seen] / norm[seen]).astype(points.dtype)
    return smooth
