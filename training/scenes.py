"""Small videos with a caption, whose continuation follows from first frame and caption.

A sprite moves, grows or stays on a plain background; sometimes a second one stands beside it and
the caption says which of them moves. Drawn by signed distances with soft edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray

COLOURS = {
    "red": (215, 45, 40),
    "green": (45, 165, 65),
    "blue": (45, 85, 210),
    "yellow": (235, 205, 50),
    "purple": (140, 60, 170),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross")
MOTIONS = {
    "moves left": (-1, 0, 0),
    "moves right": (1, 0, 0),
    "moves up": (0, -1, 0),
    "moves down": (0, 1, 0),
    "stays still": (0, 0, 0),
    "grows": (0, 0, 1),
    "shrinks": (0, 0, -1),
}
"""By words: pixels to the right and down, and growth, as factors of the speed."""
SPEEDS = {"slowly": (1.0, 0.03), "fast": (2.5, 0.06)}
"""By word: pixels a frame, and growth a frame, for 9 frames of 64 pixels."""
JUMP = "jumps"
"""A motion that only the LoRA knows: up and down again, whatever the speed."""
VAGUE = "moves somewhere"
"""A motion with more than one right answer: left, right, up or down."""
TEMPLATES = (
    "{colour} {shape} {motion} {speed}",
    "the {colour} {shape} {motion} {speed}",
    "{speed} the {colour} {shape} {motion}",
)
BACKGROUNDS = ("flat", "gradient", "horizon")
_JUMP_HEIGHT, _JUMP_STEPS = 0.22, 8  # of the side; until it is down again
_SOFT = 1.5  # pixels over which an edge fades
# Share of scenes with two sprites, each so far from the middle, give or take: they never touch in
# the first frame, and neither can be told from its place.
_PAIRS, _APART, _STRAY = 0.35, 0.23, 0.02


@dataclass(frozen=True)
class Sprite:
    """Something that moves or stands."""

    shape: str
    colour: str
    x: float
    """Middle in the first frame, as a fraction of the side."""
    y: float
    radius: float
    """As a fraction of the side."""
    motion: str = "stays still"
    speed: str = "slowly"


@dataclass(frozen=True)
class Scene:
    """A video to be drawn."""

    sprites: tuple[Sprite, ...]
    """Those that stand first; the last one moves."""
    caption: str
    background: str
    tones: tuple[tuple[int, int, int], tuple[int, int, int]]
    """Colours of the background, above and below."""
    horizon: float = 0.6
    frames: int = 9
    side: int = 64
    """Pixels."""


def draw_scene(
    generator: np.random.Generator,
    frames: int = 9,
    side: int = 64,
    vague: float = 0.08,
    contrast: float = 0.0,
) -> Scene:
    """A scene by chance.

    Args:
        generator: of random numbers.
        frames: of the video.
        side: of its pictures, pixels.
        vague: share of captions with more than one right answer.
        contrast: by how much sprites stand out from the background, at least: levels of 255, mean
            of the three colours.
    """
    colours = [str(colour) for colour in generator.permutation(list(COLOURS))]
    sprites: tuple[Sprite, ...] = (_sprite(generator, colours[0], 0.5, 0.5, 0.13),)
    if generator.random() < _PAIRS:
        angle = generator.uniform(0, 2 * math.pi)
        x, y = _APART * math.cos(angle), _APART * math.sin(angle)
        sprites = (
            _sprite(generator, colours[1], 0.5 + x, 0.5 + y, _STRAY),
            _sprite(generator, colours[0], 0.5 - x, 0.5 - y, _STRAY),
        )
    background = str(generator.choice(BACKGROUNDS))
    tones = _tone(generator), _tone(generator)
    while min(_apart(COLOURS[s.colour], tone) for s in sprites for tone in tones) < contrast:
        tones = _tone(generator), _tone(generator)
    horizon = generator.uniform(0.45, 0.75)
    scene = Scene(sprites, "", background, tones, horizon, frames, side)
    return with_motion(generator, scene, vague)


def with_motion(generator: np.random.Generator, scene: Scene, vague: float = 0.0) -> Scene:
    """The same first frame with another motion and its caption, by chance.

    Of two sprites either may be the one that the caption names.
    """
    if len(scene.sprites) == 2 and generator.random() < 0.5:
        scene = name_other(scene)
    motion = str(generator.choice(list(MOTIONS)))
    speed = str(generator.choice(list(SPEEDS)))
    is_vague = generator.random() < vague
    if is_vague:
        motion = str(generator.choice(list(MOTIONS)[:4]))
    return moving_so(scene, motion, speed, int(generator.integers(len(TEMPLATES))), is_vague)


def name_other(scene: Scene) -> Scene:
    """The same first frame of two sprites, of which the other one moves."""
    return replace(scene, sprites=scene.sprites[::-1])


def moving_so(
    scene: Scene, motion: str, speed: str, template: int = 0, is_vague: bool = False
) -> Scene:
    """The same first frame with a given motion and its caption.

    Args:
        scene: gives everything else.
        motion: one of `MOTIONS`, or `JUMP`.
        speed: one of `SPEEDS`.
        template: number of the caption's form.
        is_vague: the caption does not say where to.
    """
    *standing, last = scene.sprites
    moving = Sprite(last.shape, last.colour, last.x, last.y, last.radius, motion, speed)
    words = {"colour": last.colour, "shape": last.shape}
    words |= {"motion": VAGUE if is_vague else motion, "speed": speed}
    if motion in ("stays still", JUMP):
        words["speed"] = ""
    caption = " ".join(TEMPLATES[template].format(**words).split())
    return replace(scene, sprites=(*standing, moving), caption=caption)


def render(scene: Scene) -> Array:
    """All frames, [T, side, side, 3] uint8. Longer videos move at half the speed a frame."""
    place = (np.arange(scene.side) + 0.5) / scene.side
    rows, columns = np.meshgrid(place, place, indexing="ij")
    plain = _background(scene, rows)
    pace = 1.0 if scene.frames <= 9 else 0.5
    result = np.empty((scene.frames, scene.side, scene.side, 3), np.uint8)
    for number in range(scene.frames):
        picture = plain.copy()
        for sprite in scene.sprites:
            _paint(picture, sprite, number * pace, rows, columns, scene.side)
        result[number] = np.clip(np.round(picture), 0, 255)
    return result


def _sprite(
    generator: np.random.Generator, colour: str, x: float, y: float, spread: float
) -> Sprite:
    return Sprite(
        str(generator.choice(SHAPES)),
        colour,
        x + generator.uniform(-spread, spread),
        y + generator.uniform(-spread, spread),
        generator.uniform(0.12, 0.18),
    )


def _tone(generator: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(v) for v in generator.integers(20, 150, 3))
    return red, green, blue


def _apart(first: tuple[int, int, int], second: tuple[int, int, int]) -> float:
    return sum(abs(a - b) for a, b in zip(first, second, strict=True)) / 3


def _background(scene: Scene, rows: Array) -> Array:
    above, below = (np.array(tone, np.float64) for tone in scene.tones)
    if scene.background == "flat":
        share = np.zeros_like(rows)
    elif scene.background == "gradient":
        share = rows
    else:
        share = np.clip((rows - scene.horizon) * scene.side / _SOFT + 0.5, 0, 1)
    return above + share[..., None] * (below - above)


def _paint(
    picture: Array, sprite: Sprite, steps: float, rows: Array, columns: Array, side: int
) -> None:
    right, down, growth = MOTIONS.get(sprite.motion, (0, 0, 0))
    pixels, rate = SPEEDS[sprite.speed]
    x = columns - sprite.x - right * pixels * steps / 64
    y = rows - sprite.y - down * pixels * steps / 64
    if sprite.motion == JUMP:
        share = steps / _JUMP_STEPS
        y = y + _JUMP_HEIGHT * 4 * share * (1 - share)
    radius = sprite.radius * (1 + growth * rate) ** steps
    apart = _distance(sprite.shape, x, y, radius) * side / _SOFT
    inside = np.clip(0.5 - apart, 0, 1)[..., None]
    picture += inside * (np.array(COLOURS[sprite.colour], np.float64) - picture)


def _distance(shape: str, x: Array, y: Array, radius: float) -> Array:
    """Distance to the edge, negative inside, as a fraction of the side."""
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - 0.88 * radius
    if shape == "triangle":
        slope = math.sqrt(3) / 2
        sides = np.abs(x) * slope - (y + 0.9 * radius) / 2
        return np.maximum(sides, y - 0.75 * radius)
    long, short = 1.05 * radius, 0.36 * radius
    upright = np.maximum(np.abs(x) - short, np.abs(y) - long)
    across = np.maximum(np.abs(x) - long, np.abs(y) - short)
    return np.minimum(upright, across)
