"""Turning stored pictures upright, as a video file's display matrix asks for."""

from __future__ import annotations

from typing import Any

import numpy as np


def quarter_turn(matrix: Any) -> tuple[int, int, int, int]:
    """The turn by a multiple of 90 degrees, mirrored or not, that comes closest to a matrix.

    Args:
        matrix: a video's display matrix, a buffer of nine 32-bit integers; None for no turn.
    Returns:
        a, b, c, d as -1, 0 or 1: a pixel at x, y is shown at a x + c y, b x + d y.
    Source: ISO/IEC 14496-12, 6.2.2.
    """
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return 0, 1 if b > 0 else -1, 1 if c > 0 else -1, 0
    return 1 if a >= 0 else -1, 0, 0, 1 if d >= 0 else -1


def turn_upright(picture: np.ndarray, turn: tuple[int, int, int, int]) -> np.ndarray:
    """Turn a stored picture for showing.

    Args:
        picture: [H, W, C].
        turn: from `quarter_turn`.
    Returns:
        [H, W, C] or [W, H, C]; `picture` itself if there is nothing to turn.
    """
    a, b, c, d = turn
    if turn == (1, 0, 0, 1):
        return picture
    if b:
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[::d, ::a])
