"""Videos of the drawn puppet in many colours and proportions, its skeleton, and its silhouette."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from wan.preprocess.pose.keypoints import build_track
from wan.preprocess.pose.skeleton import draw_track
from wan.tiny.puppet import Puppet, draw_puppets

Array = np.ndarray
_DRAWN = 6  # times the side: the figure is drawn large, and shrunk, for soft edges


@dataclass(frozen=True)
class PuppetClip:
    """One figure's motion, all of it [T, side, side, 3] uint8 unless said otherwise."""

    frames: Array
    skeletons: Array
    silhouettes: Array
    """[T, side, side] bool."""
    background: Array
    """[side, side, 3]: the scene without the figure."""


def random_puppet(generator: np.random.Generator) -> Puppet:
    """Looks by chance: colours, proportions, pace, place."""

    def colour() -> tuple[int, int, int]:
        red, green = (int(v) for v in generator.integers(20, 221, 2))
        return red, green, int(generator.integers(20, 41))

    def around(length: float, spread: float = 0.15) -> float:
        return float(length * generator.uniform(1 - spread, 1 + spread))

    plain = Puppet()
    return replace(
        plain,
        x=float(generator.uniform(0.4, 0.6)),
        height=float(generator.uniform(0.72, 0.86)),
        shoulders=around(plain.shoulders),
        hips=around(plain.hips),
        arm=around(plain.arm),
        forearm=around(plain.forearm),
        thigh=around(plain.thigh, 0.1),
        shin=around(plain.shin, 0.1),
        head=around(plain.head),
        shirt=colour(),
        sleeves=colour(),
        trousers=colour(),
        shoes=colour(),
        speed=float(generator.uniform(0.6, 1.4)),
    )


def draw_clip(
    puppet: Puppet,
    background: tuple[int, int, int],
    frames: int,
    side: int,
    fps: float = 8.0,
    start: int = 0,
) -> PuppetClip:
    """Draw a figure's motion.

    Args:
        puppet: its looks.
        background: one colour; blue is kept out of the markings' way by the puppet itself.
        frames: of the clip.
        side: of its pictures, pixels.
        fps: of the clip.
        start: frames of the same motion that are left out in front.
    """
    large = side * _DRAWN
    count = start + frames
    video = draw_puppets(count, large, large, (puppet,), background, fps)
    points = video.points[0][start:]
    skeletons = _skeletons(points / _DRAWN, side)
    silhouettes = _shrunk(video.silhouettes[0][start:, ..., None] * np.uint8(255))[..., 0] > 127
    plain = np.empty((side, side, 3), np.uint8)
    plain[:] = background
    return PuppetClip(_shrunk(video.frames[start:]), skeletons, silhouettes, plain)


def _skeletons(points: Array, side: int) -> Array:
    sure = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=-1).astype(np.float32)
    boxes = np.tile(np.array([0, 0, side, side, 1], np.float32), (len(points), 1))
    return draw_track(build_track(sure, boxes, (), side, side))


def _shrunk(frames: Array) -> Array:
    import cv2

    side = frames.shape[1] // _DRAWN
    shrunk = [cv2.resize(f, (side, side), interpolation=cv2.INTER_AREA) for f in frames]
    return np.stack(shrunk).reshape(len(frames), side, side, -1)
