"""Videos beside each other: to see by eye what differs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .resize import resize_to
from .sequence import Frames, MadeFrames, pixels

Array = np.ndarray
LAYOUTS = ("side by side", "one above the other", "wipe", "moving wipe")
_LINE, _INK, _PAPER = (255, 255, 255), (255, 255, 255), (24, 24, 24)
_SWEEPS = 49  # frames in which a moving wipe crosses the picture
_LABEL_SHARE = 14  # the label's height is one part in so many of the picture's, within limits
_LABEL_HEIGHTS = (14, 40)


def compare(
    first: Frames,
    second: Frames,
    layout: str = LAYOUTS[0],
    position: float = 0.5,
    labels: tuple[str, str] = ("", ""),
) -> MadeFrames:
    """Two videos as one.

    The second is brought to the first one's size, with black bars if its aspect differs; the
    shorter one stands still at its end.

    Args:
        first, second: both with at least one frame.
        layout: of `LAYOUTS`.
        position: of the line of a wipe, 0 = left to 1 = right; left of it is the first video.
        labels: written into each; empty for none.
    Returns:
        Frames of the first one's size, of twice its width or height where both are shown whole.
    Raises:
        InputError: an unknown layout, or a position outside of 0..1.
    """
    if layout not in LAYOUTS:
        raise InputError(
            what=f"The layout of the comparison is {layout!r}.",
            why=f"Known are {', '.join(LAYOUTS)}.",
            fix="Choose one of them.",
        )
    if not 0 <= position <= 1:
        raise InputError(
            what=f"The position of the wipe is {position}.",
            why="It is a part of the width.",
            fix="Use 0 (left) to 1 (right).",
        )
    height, width = pixels(first, 0).shape[:2]
    count = max(len(first), len(second))

    def make(number: int) -> Array:
        pair = [_frame(video, number, width, height) for video in (first, second)]
        if layout == LAYOUTS[0]:
            return np.concatenate([_labelled(p, t) for p, t in zip(pair, labels, strict=True)], 1)
        if layout == LAYOUTS[1]:
            return np.concatenate([_labelled(p, t) for p, t in zip(pair, labels, strict=True)], 0)
        share = position if layout == LAYOUTS[2] else _swept(number, count)
        return _wiped(*pair, round(share * width), labels)

    return MadeFrames(count, make)


def grid(videos: Sequence[Frames], labels: Sequence[str] = (), columns: int = 0) -> MadeFrames:
    """Many videos in rows, each with its label.

    All are brought to the first one's size; shorter ones stand still at their end, and places
    that are left over are dark.

    Args:
        videos: at least one.
        labels: one for each video, or none.
        columns: 0: about as many as rows.
    Raises:
        InputError: no video, or more or fewer labels than videos.
    """
    if not videos:
        raise InputError(
            what="There are no videos for the grid.",
            why="It shows at least one.",
            fix="Connect frames.",
        )
    if labels and len(labels) != len(videos):
        raise InputError(
            what=f"The grid has {len(videos)} videos and {len(labels)} labels.",
            why="Each video has its own label.",
            fix="Connect the list of values that the videos were made with, or no labels.",
        )
    height, width = pixels(videos[0], 0).shape[:2]
    columns = min(columns or math.ceil(math.sqrt(len(videos))), len(videos))
    rows = math.ceil(len(videos) / columns)
    texts = [*labels, *[""] * (len(videos) - len(labels))]

    def make(number: int) -> Array:
        sheet = np.full((rows * height, columns * width, 3), _PAPER, np.uint8)
        for place, (video, text) in enumerate(zip(videos, texts, strict=True)):
            top, left = place // columns * height, place % columns * width
            cell = _labelled(_frame(video, number, width, height), text)
            sheet[top : top + height, left : left + width] = cell
        return sheet

    return MadeFrames(max(map(len, videos)), make)


def _frame(video: Frames, number: int, width: int, height: int) -> Array:
    frame = pixels(video, min(number, len(video) - 1))
    if frame.shape[:2] == (height, width):
        return frame
    return resize_to(np.ascontiguousarray(frame), width, height)


def _swept(number: int, count: int) -> float:
    """Where the line of a moving wipe is: from left to right and back, over and over."""
    length = min(_SWEEPS, max(2, count)) - 1
    turn, step = divmod(number, length)
    return (step if turn % 2 == 0 else length - step) / length


def _wiped(first: Array, second: Array, column: int, labels: tuple[str, str]) -> Array:
    width = first.shape[1]
    frame = np.array(_labelled(second, labels[1], at_right=True))
    frame[:, :column] = _labelled(first, labels[0])[:, :column]
    if 0 < column < width:
        frame[:, column - max(1, width // 400) : column] = _LINE
    return frame


def _labelled(frame: Array, text: str, at_right: bool = False) -> Array:
    """The frame with a text in a lower corner, on a dark ground."""
    if not text:
        return frame
    from PIL import Image, ImageDraw, ImageFont

    least, most = _LABEL_HEIGHTS
    size = min(most, max(least, frame.shape[0] // _LABEL_SHARE))
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size * 3 // 4)
    length = draw.textlength(text, font=font) + size // 2
    left = frame.shape[1] - length if at_right else 0
    top = frame.shape[0] - size
    draw.rectangle((left, top, left + length, frame.shape[0]), fill=_PAPER)
    draw.text((left + size // 4, top + size // 2), text, fill=_INK, font=font, anchor="lm")
    return np.asarray(picture)
