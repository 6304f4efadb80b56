"""A drawn figure that moves, with known joints and silhouette: something to measure poses on.

Its markings are colours that the tiny ONNX models answer to: a spot of its own for each large
joint, and for head, hands and feet a patch whose red and green tell the place on it, so that 133
points fit on a small figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

Array = np.ndarray
Colour = tuple[int, int, int]

POINTS = 133
# Blue tells what a marking is. Between 20 and 40 it is none, and free for everything else.
SPOT_BLUE = 0
PATCH_BLUES = {
    "head": 250,
    "left hand": 213,
    "right hand": 176,
    "left foot": 139,
    "right foot": 102,
}
FREE_BLUE = (20, 40)
OUTLINES: tuple[Colour, ...] = ((0, 255, 20), (255, 0, 20), (255, 255, 20), (0, 0, 20))
"""Colours of the figures' outlines by which the tiny detector tells people apart."""
# Red and green of each large joint's spot, by number in COCO-WholeBody: shoulders, elbows,
# wrists, hips, knees, ankles, left one first.
SPOTS: dict[int, tuple[int, int]] = {
    number: (60 + 45 * (place % 4), 40 + 85 * (place // 4))
    for place, number in enumerate(range(5, 17))
}
_RANGE = 110  # red and green of a patch go from 128 - 110 to 128 + 110


def markings() -> dict[int, tuple[str, Colour]]:
    """What a point is on ("spot" or a patch's name) and its colour, by COCO-WholeBody number."""
    found: dict[int, tuple[str, Colour]] = {
        number: ("spot", (*spot, SPOT_BLUE)) for number, spot in SPOTS.items()
    }
    for name, layout in _patches().items():
        for number, place in layout.items():
            red, green = (round(128 + _RANGE * part) for part in place)
            found[number] = name, (red, green, PATCH_BLUES[name])
    return found


@dataclass(frozen=True)
class Puppet:
    """Looks of a figure. Lengths are fractions of its height."""

    x: float = 0.5
    """Middle of the hips as a fraction of the frame's width."""
    ground: float = 0.95
    """Soles as a fraction of the frame's height."""
    height: float = 0.8
    """Of the frame's height."""
    shoulders: float = 0.2
    hips: float = 0.13
    torso: float = 0.28
    arm: float = 0.15
    forearm: float = 0.14
    thigh: float = 0.21
    shin: float = 0.19
    head: float = 0.085
    """Radius."""
    hand: float = 0.06
    foot: float = 0.05
    shirt: Colour = (150, 70, 25)
    sleeves: Colour = (190, 120, 25)
    trousers: Colour = (60, 80, 25)
    shoes: Colour = (110, 60, 20)
    outline: int = 0
    """Which of `OUTLINES`; people in one video need different ones."""
    rim: float = 0.008
    """Width of the outline. The tiny detector sees small pictures of figures with broad ones."""
    speed: float = 1.0
    """Steps a second."""
    walk: float = 0.0
    """Fractions of the frame's width a second, to the right."""


@dataclass(frozen=True)
class PuppetVideo:
    """A drawn video and the truth about it."""

    frames: Array
    """[T, H, W, 3] uint8 RGB."""
    points: tuple[Array, ...]
    """Per figure [T, 133, 2] float64: COCO-WholeBody points in pixels."""
    silhouettes: tuple[Array, ...]
    """Per figure [T, H, W] bool: its visible pixels."""

    def box(self, number: int, figure: int = 0) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 around a figure's silhouette in one frame."""
        rows, columns = np.nonzero(self.silhouettes[figure][number])
        return (
            int(columns.min()),
            int(rows.min()),
            int(columns.max()) + 1,
            int(rows.max()) + 1,
        )


def draw_puppets(
    frames: int = 48,
    width: int = 448,
    height: int = 640,
    puppets: Sequence[Puppet] = (Puppet(),),
    background: Colour | Array = (96, 128, 30),
    fps: float = 16.0,
) -> PuppetVideo:
    """Draw figures that step and wave their arms. Later ones stand in front.

    Args:
        frames: number of frames.
        width, height: pixels.
        puppets: at most four.
        background: a plain colour, or a picture [height, width, 3] uint8.
        fps: frames a second; sets how far they move from frame to frame.
    Raises:
        InputError: a colour that the tiny models would take for a marking.
    """
    for puppet in puppets:
        for colour in (puppet.shirt, puppet.sleeves, puppet.trousers, puppet.shoes):
            _check_colour(colour)
    for colour in np.unique(np.reshape(background, (-1, 3)), axis=0).tolist():
        _check_colour(tuple(colour))
    video = np.empty((frames, height, width, 3), np.uint8)
    points = [np.empty((frames, POINTS, 2)) for _ in puppets]
    silhouettes = [np.zeros((frames, height, width), bool) for _ in puppets]
    for number in range(frames):
        video[number] = background
        for place, puppet in enumerate(puppets):
            pose = _pose(puppet, number / fps, width, height)
            points[place][number] = pose.points
            shown = _draw(video[number], puppet, pose)
            silhouettes[place][number] = shown
            for behind in silhouettes[:place]:
                behind[number] &= ~shown
    return PuppetVideo(video, tuple(points), tuple(silhouettes))


@dataclass
class _Pose:
    points: Array
    patches: dict[str, tuple[Array, Array, float]]
    """Middle, axes [2, 2] (local x, local y) and radius in pixels."""
    size: float


def _pose(puppet: Puppet, seconds: float, width: int, height: int) -> _Pose:
    size = puppet.height * height
    swing = math.sin(2 * math.pi * puppet.speed * seconds)
    points = np.zeros((POINTS, 2))
    legs = puppet.thigh + puppet.shin + 2 * puppet.foot
    hips = np.array(
        [(puppet.x + puppet.walk * seconds) * width, puppet.ground * height - legs * size]
    )
    neck = hips - (0.02 * swing * size, puppet.torso * size)
    patches: dict[str, tuple[Array, Array, float]] = {}
    for side, name in ((1, "left"), (-1, "right")):  # the person's left is on our right
        odd = int(side < 0)
        arm, leg = 0.4 + 0.25 * swing * side, 0.08 + 0.1 * swing * side
        shoulder = neck + np.array([side * puppet.shoulders / 2 * size, 0])
        elbow = shoulder + _ray(side * arm, puppet.arm * size)
        bend = side * (arm + 0.1 + 0.2 * swing * side)
        wrist = elbow + _ray(bend, puppet.forearm * size)
        hip = hips + np.array([side * puppet.hips / 2 * size, 0])
        knee = hip + _ray(side * leg, puppet.thigh * size)
        ankle = knee + _ray(side * leg * 0.3, puppet.shin * size)
        points[[5 + odd, 7 + odd, 9 + odd]] = shoulder, elbow, wrist
        points[[11 + odd, 13 + odd, 15 + odd]] = hip, knee, ankle
        palm = wrist + _ray(bend, (puppet.hand + _SPOT) * size)
        patches[f"{name} hand"] = (palm, _axes(bend), puppet.hand * size)
        sole = ankle + _ray(side * 0.5, (puppet.foot + _SPOT) * size)
        patches[f"{name} foot"] = (sole, _axes(side * 0.5), puppet.foot * size)
    middle = neck - (0, (puppet.head * 1.5) * size)
    patches["head"] = (middle, _axes(0.15 * swing), puppet.head * size)
    for name, layout in _patches().items():
        middle, axes, radius = patches[name]
        for number, place in layout.items():
            points[number] = middle + radius * (np.array(place) @ axes)
    return _Pose(points, patches, size)


_SPOT = 0.026  # radius of a joint's spot, and below of limbs, in figure heights
_LIMB = 0.028
_FADE = 24  # blue at a spot's rim: softer edges are found more exactly


def _draw(frame: Array, puppet: Puppet, pose: _Pose) -> Array:
    """Draw a figure into a frame and give its silhouette."""
    body, size = pose.points, pose.size
    hips, neck = body[11:13].mean(axis=0), body[5:7].mean(axis=0)
    bones = [
        (hips, neck, 0.075 * size, puppet.shirt),
        (neck, pose.patches["head"][0], 0.03 * size, puppet.shirt),
    ]
    bones += [(body[a], body[b], _LIMB * size, puppet.shirt) for a, b in ((5, 6), (11, 12))]
    bones += [(body[a], body[a + 2], _LIMB * size, puppet.sleeves) for a in (5, 6, 7, 8)]
    bones += [(body[a], body[a + 2], _LIMB * size, puppet.trousers) for a in (11, 12, 13, 14)]
    for name, (middle, _, radius) in pose.patches.items():
        bones.append((middle, middle, radius, puppet.shoes if "foot" in name else puppet.sleeves))
    silhouette = np.zeros(frame.shape[:2], bool)
    margin = max(puppet.rim * size, 2.5)
    for start, end, radius, _ in bones:
        window, inside = _capsule(frame.shape, start, end, radius + margin)
        silhouette[window] |= inside
    frame[silhouette] = OUTLINES[puppet.outline]
    for start, end, radius, colour in bones:
        window, inside = _capsule(frame.shape, start, end, radius)
        frame[window][inside] = colour
    for name, patch in pose.patches.items():
        _draw_patch(frame, *patch, PATCH_BLUES[name])
    for number, colour in SPOTS.items():
        _draw_spot(frame, body[number], _SPOT * size, colour)
    return silhouette


def _capsule(
    shape: tuple[int, ...], start: Array, end: Array, radius: float
) -> tuple[tuple[slice, slice], Array]:
    """The pixels within `radius` of a line: a window of the frame and a mask in it."""
    low = np.floor(np.minimum(start, end) - radius).astype(int)
    high = np.ceil(np.maximum(start, end) + radius).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, (shape[1], shape[0]))
    window = slice(low[1], max(high[1], low[1])), slice(low[0], max(high[0], low[0]))
    y, x = np.mgrid[window]
    along = end - start
    length = max(float(along @ along), 1e-9)
    share = np.clip(((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length, 0, 1)
    apart = (x - start[0] - share * along[0]) ** 2 + (y - start[1] - share * along[1]) ** 2
    return window, apart <= radius**2


def _draw_spot(frame: Array, middle: Array, radius: float, colour: tuple[int, int]) -> None:
    window, inside = _capsule(frame.shape, middle, middle, radius)
    y, x = np.mgrid[window]
    apart = np.hypot(x - middle[0], y - middle[1])[inside] / radius
    frame[window][inside, :2] = colour
    frame[window][inside, 2] = np.round(SPOT_BLUE + _FADE * apart)


def _draw_patch(frame: Array, middle: Array, axes: Array, radius: float, blue: int) -> None:
    window, inside = _capsule(frame.shape, middle, middle, radius)
    y, x = np.mgrid[window]
    local = np.stack([x - middle[0], y - middle[1]], axis=-1) @ axes.T / radius
    colours = np.full((*local.shape[:2], 3), blue, np.uint8)
    colours[..., :2] = np.clip(np.round(128 + _RANGE * local), 0, 255)
    frame[window][inside] = colours[inside]


def _ray(angle: float, length: float) -> Array:
    """A step from straight down, turned towards our right by `angle`."""
    return np.array([math.sin(angle), math.cos(angle)]) * length


def _axes(angle: float) -> Array:
    """Rows: local x and local y, where local y points along `_ray(angle)`."""
    down = _ray(angle, 1.0)
    return np.array([[down[1], -down[0]], down])


def _patches() -> dict[str, dict[int, tuple[float, float]]]:
    """Places of points on each patch, -1..1 from its middle, by number in COCO-WholeBody."""
    head = {0: (0.0, 0.05), 1: (0.25, -0.2), 2: (-0.25, -0.2), 3: (0.7, -0.1), 4: (-0.7, -0.1)}
    head |= {23 + point: place for point, place in enumerate(_face_layout())}
    feet = ((0.2, 0.2), (-0.2, 0.2), (0.0, -0.3))  # big toe, small toe, heel
    return {
        "head": head,
        "left hand": {91 + point: place for point, place in enumerate(_hand_layout())},
        "right hand": {112 + point: place for point, place in enumerate(_hand_layout())},
        "left foot": {17 + point: place for point, place in enumerate(feet)},
        "right foot": {20 + point: place for point, place in enumerate(feet)},
    }


def _hand_layout() -> list[tuple[float, float]]:
    """Wrist, then five fingers of four points, spread like a fan."""
    places = [(0.0, -0.5)]
    for finger in range(5):
        angle = 0.35 * (finger - 2)
        for step in range(4):
            reach = 0.3 + 0.2 * step
            places.append((math.sin(angle) * reach, math.cos(angle) * reach - 0.5))
    return places


def _face_layout() -> list[tuple[float, float]]:
    """The 68 landmarks: jaw, brows, nose, eyes and mouth, from our left to our right."""

    def ring(x: float, y: float, across: float, down: float, count: int) -> list:
        turns = [2 * math.pi * step / count - math.pi for step in range(count)]
        return [(x + across * math.cos(t), y + down * math.sin(t)) for t in turns]

    jaw = [math.pi * (1 - step / 16) for step in range(17)]
    places = [(0.6 * math.cos(t), 0.6 * math.sin(t)) for t in jaw]
    places += [(-0.42 + 0.08 * step, -0.38) for step in range(5)]
    places += [(0.1 + 0.08 * step, -0.38) for step in range(5)]
    places += [(0.0, -0.2 + 0.08 * step) for step in range(4)]
    places += [(-0.12 + 0.06 * step, 0.1) for step in range(5)]
    places += ring(-0.25, -0.2, 0.1, 0.06, 6) + ring(0.25, -0.2, 0.1, 0.06, 6)
    return places + ring(0, 0.3, 0.24, 0.12, 12) + ring(0, 0.3, 0.16, 0.06, 8)


def _check_colour(colour: Colour) -> None:
    low, high = FREE_BLUE
    near = min(sum(abs(a - b) for a, b in zip(colour, o, strict=True)) for o in OUTLINES)
    if not low <= colour[2] <= high or near < 60:
        raise InputError(
            what=f"The colour {colour} is too near to a marking of the puppet.",
            why="The tiny detector and pose model find the figure by its markings' colours.",
            fix=f"Use a blue of {low} to {high}, and a red and green that differ from 0 and 255.",
        )
