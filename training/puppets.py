"""Videos of the drawn puppet in many colours and proportions, its skeleton, and its silhouette.

A figure is drawn once, as shares of its garments in every pixel; then it is painted in as many
colours and before as many backgrounds as one likes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from wan.media.resize import letterbox
from wan.preprocess.pose.face import crop_faces, find_faces
from wan.preprocess.pose.keypoints import PoseTrack, build_track
from wan.preprocess.pose.skeleton import draw_track
from wan.tiny.puppet import FREE_BLUE, Puppet, draw_puppets

Array = np.ndarray
RIM = 0.018
"""Width of the outlines, so that the tiny detector sees figures of 80 x 112 pixels."""
GARMENTS = ("shirt", "sleeves", "trousers", "shoes")
_DRAWN = 5  # times the side: the figure is drawn large, and shrunk, for soft edges
_FACE = 64  # side of a face for the motion encoder
_PLAIN, _STEP = (60, 60, 30), 160
_GROUND = (200, 60, 30)


@dataclass(frozen=True)
class Figure:
    """One figure's motion, without its colours. Arrays begin [T, H, W]."""

    fixed: Array
    """[..., 3] uint8: what has a colour of its own, which are markings and outline."""
    shares: Array
    """[..., 5] uint8, 255ths: of the four garments and of the background, in every pixel."""
    skeletons: Array
    """[..., 3] uint8, as the pose nodes draw them."""
    points: Array
    """[T, 133, 2]: where the joints are, pixels."""
    faces: Array
    """[T, 64, 64, 3] uint8: the head, as the pose nodes crop it."""

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.fixed)

    def cut(self, first: int, count: int) -> Figure:
        """A few of its frames."""
        window = slice(first, first + count)
        return Figure(
            self.fixed[window],
            self.shares[window],
            self.skeletons[window],
            self.points[window],
            self.faces[window],
        )

    def paint(self, colours: Array, background: Array) -> Array:
        """Frames [T, H, W, 3] uint8.

        Args:
            colours: [4, 3] of shirt, sleeves, trousers and shoes, 0..255.
            background: one picture [H, W, 3] behind all frames.
        """
        shares = self.shares.astype(np.float32) / 255
        picture = self.fixed + shares[..., :4] @ colours.astype(np.float32)
        picture += shares[..., 4:] * background
        return np.clip(np.round(picture), 0, 255).astype(np.uint8)

    def poses(self, scale: float = 1.0) -> Array:
        """The skeleton as the pack draws it, [T, H, W, 3] uint8.

        Args:
            scale: how many times larger the driving video is. The skeleton is drawn in its size
                and shrunk without averaging, so that its lines become thin.
        """
        height, width = self.fixed.shape[1:3]
        drawn = _track(self.points * scale, round(width * scale), round(height * scale))
        return np.stack([letterbox(frame, width, height) for frame in draw_track(drawn)])

    @property
    def silhouettes(self) -> Array:
        """[T, H, W] bool: the figure's pixels."""
        return self.shares[..., 4] < 128


def random_puppet(generator: np.random.Generator) -> Puppet:
    """Proportions by chance, and pace and place."""

    def around(length: float, spread: float = 0.15) -> float:
        return float(length * generator.uniform(1 - spread, 1 + spread))

    plain = Puppet()
    return replace(
        plain,
        x=float(generator.uniform(0.4, 0.6)),
        ground=float(generator.uniform(0.92, 0.97)),
        height=float(generator.uniform(0.72, 0.86)),
        shoulders=around(plain.shoulders),
        hips=around(plain.hips),
        arm=around(plain.arm),
        forearm=around(plain.forearm),
        thigh=around(plain.thigh, 0.1),
        shin=around(plain.shin, 0.1),
        head=around(plain.head),
        rim=RIM,
        speed=float(generator.uniform(0.4, 1.1)),
    )


def random_colours(generator: np.random.Generator) -> Array:
    """[4, 3] for `Figure.paint`, of the kind that the tiny detectors take for no marking."""
    colours = generator.integers(20, 221, (4, 3))
    colours[:, 2] = generator.integers(*FREE_BLUE, 4)
    return colours


def random_background(generator: np.random.Generator, width: int, height: int) -> Array:
    """[height, width, 3] float32: flat, a gradient or a horizon, free of the markings' blue."""
    above, below = random_colours(generator)[:2].astype(np.float32)
    rows = (np.arange(height, dtype=np.float32) + 0.5)[:, None, None] / height
    kind = generator.integers(3)
    if kind == 0:
        share = np.zeros_like(rows)
    elif kind == 1:
        share = rows
    else:
        share = np.clip((rows - generator.uniform(0.4, 0.85)) * height / 1.5 + 0.5, 0, 1)
    return np.broadcast_to(above + share * (below - above), (height, width, 3)).copy()


def draw_figure(puppet: Puppet, frames: int, width: int, height: int, fps: float = 16.0) -> Figure:
    """Draw a figure's motion.

    Args:
        puppet: its proportions; its colours do not matter.
        frames: of the clip.
        width, height: of its pictures, pixels.
        fps: of the clip.
    """
    large = width * _DRAWN, height * _DRAWN
    plain = replace(puppet, **dict.fromkeys(GARMENTS, _PLAIN))

    def drawn(background: tuple[int, int, int], **colours: tuple[int, int, int]) -> Array:
        painted = replace(plain, **colours)
        return draw_puppets(frames, *large, (painted,), background, fps).frames

    red, green = (_PLAIN[0] + _STEP, *_PLAIN[1:]), (_PLAIN[0], _PLAIN[1] + _STEP, _PLAIN[2])
    first = draw_puppets(frames, *large, (plain,), _GROUND, fps)
    base = _shrunk(first.frames)
    above = _shrunk(drawn(_GROUND, shirt=red, sleeves=green)) - base
    below = _shrunk(drawn(_GROUND, trousers=red, shoes=green)) - base
    behind = _shrunk(drawn((40, 60, 30))) - base
    shares = [above[..., 0], above[..., 1], below[..., 0], below[..., 1], -behind[..., 0]]
    shares = np.stack(shares, axis=-1) / _STEP
    garments = shares[..., :4].sum(-1, keepdims=True) * np.float32(_PLAIN)
    fixed = base - garments - shares[..., 4:] * np.float32(_GROUND)
    points = first.points[0] / _DRAWN
    faces = _faces(first.frames, _track(first.points[0], *large))
    return Figure(
        np.clip(np.round(fixed), 0, 255).astype(np.uint8),
        np.clip(np.round(shares * 255), 0, 255).astype(np.uint8),
        draw_track(_track(points, width, height)),
        points.astype(np.float32),
        faces,
    )


def _faces(frames: Array, track: PoseTrack) -> Array:
    import cv2

    crops = crop_faces(frames, find_faces(track))
    return np.stack([cv2.resize(c, (_FACE, _FACE), interpolation=cv2.INTER_AREA) for c in crops])


def _track(points: Array, width: int, height: int) -> PoseTrack:
    sure = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=-1).astype(np.float32)
    boxes = np.tile(np.array([0, 0, width, height, 1], np.float32), (len(points), 1))
    return build_track(sure, boxes, (), width, height)


def _shrunk(frames: Array) -> Array:
    import cv2

    size = frames.shape[2] // _DRAWN, frames.shape[1] // _DRAWN
    shrunk = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]
    return np.stack(shrunk).astype(np.float32)
