"""How long a job will take, by how long others took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...errors import InputError
from ...geometry import parse_size

_SURE = 5.0
"""Percent from which the job's own speed says more than earlier jobs do."""


def work_size(values: Mapping[str, Any]) -> float:
    """What the time of a job grows with: pixels times frames times steps, as far as they are known.

    Args:
        values: parameters of an app.
    """
    steps = values.get("num_inference_steps") or values.get("sampling_steps") or 1
    frames = values.get("num_frames") or 1
    width, height = values.get("resolution_width") or 1, values.get("resolution_height") or 1
    if "size" in values:
        with suppress(InputError):
            width, height = parse_size(values["size"])
    numbers = (steps, frames, width, height)
    return float(steps * frames * width * height) if all(map(_is_number, numbers)) else 1.0


def seconds_left(
    progress: float, elapsed: float, size: float, earlier: Sequence[tuple[str, float, float]]
) -> float | None:
    """Seconds until the end, or None if nothing is known.

    Args:
        progress: percent done.
        elapsed: seconds since the job began.
        size: as `work_size`.
        earlier: (name, size, seconds) of ended jobs.
    """
    if progress > _SURE:
        return elapsed * (100 - progress) / progress
    speeds = [seconds / other for _, other, seconds in earlier if other > 0]
    if not speeds:
        return None
    return max(0.0, statistics.median(speeds) * size - elapsed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
