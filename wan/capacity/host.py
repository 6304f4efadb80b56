"""What the processor of a worker does to frames: figures of `python -m bench --json FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HD, _SD = 1280 * 720, 832 * 480
"""Pixels of the frames that rows A9 and A7 are measured on."""
_SAVE, _READ = ("A9", "save: ours, from uint8"), ("A9", "read: ours, to uint8")
_LANCZOS = {
    1.5: ("A7", "Lanczos 1.5x: uint8, 1 thread"),
    2.0: ("A7", "Lanczos 2x: uint8, 1 thread"),
}


@dataclass(frozen=True)
class HostFigures:
    """Seconds per pixel of a frame."""

    source: str
    save: float
    """H.264, per pixel of the saved video."""
    read: float
    """H.264, likewise."""
    lanczos: Mapping[float, float]
    """Per pixel before enlarging, by factor; 1 costs nothing."""


SHIPPED = HostFigures(
    source="BENCHMARKS.md of 2026-11-27, AMD EPYC",
    save=28.10e-3 / _HD,
    read=3.81e-3 / _HD,
    lanczos={1.0: 0.0, 1.5: 19.67e-3 / _SD, 2.0: 31.99e-3 / _SD},
)
"""Of two cores that other work was on."""


def read_host(found: Mapping[str, Any], name: str) -> HostFigures:
    """What a file of the benchmark says; where it lacks a row, what was shipped.

    Args:
        found: the file.
        name: of the file.
    """
    rows: dict[tuple[str, str], float] = {}
    for row in found["rows"]:
        rows.setdefault((row["id"], row["name"]), float(row["wall"]) / 1000)

    def pixel(row: tuple[str, str], pixels: int, shipped: float) -> float:
        return rows[row] / pixels if row in rows else shipped

    return HostFigures(
        source=f"{name}, {found.get('date', '')}, {found.get('processor', '')}",
        save=pixel(_SAVE, _HD, SHIPPED.save),
        read=pixel(_READ, _HD, SHIPPED.read),
        lanczos={1.0: 0.0}
        | {factor: pixel(row, _SD, SHIPPED.lanczos[factor]) for factor, row in _LANCZOS.items()},
    )
