"""Figures of the benchmarks' JSON files, as far as the calculator has a use for them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingFileError
from .gpus import GpuKind
from .host import HostFigures, read_host

_SECTIONS = re.compile(r"^B\d+ ")
_FORWARD = re.compile(r"^(\d+) tokens, as shipped: ours s$")
_ATTENTION = re.compile(r"^(\d+) tokens, as shipped: TFLOP/s$")
_PRODUCTS = ("dim to dim TFLOP/s", "dim to ffn TFLOP/s", "ffn to dim TFLOP/s")


@dataclass(frozen=True)
class Measurements:
    """What was measured on one kind of GPU. What was not is None or empty."""

    device: str
    """As PyTorch names it."""
    source: str
    """The file, and when it was written if it says so."""
    products: float | None = None
    """TFLOP/s of the transformer's matrix products, the slowest of three shapes."""
    copy: float | None = None
    """GB/s read and written."""
    link: float | None = None
    """GB/s from pinned memory."""
    attention: Mapping[int, float] = field(default_factory=dict)
    """TFLOP/s by number of tokens."""
    forward: Mapping[int, float] = field(default_factory=dict)
    """Seconds of one forward of 40 blocks of I2V 14B by number of tokens."""
    skipped: float | None = None
    """Of a computed step."""
    vae: Mapping[str, float] = field(default_factory=dict)
    """Seconds by "decode 480p", "encode 480p", "decode 720p" and "encode 720p"; whole pictures."""

    def is_of(self, kind: GpuKind) -> bool:
        """Whether the device is of that kind, told by its name."""
        return re.search(kind.device, self.device, re.IGNORECASE) is not None


def read_measurements(path: Path) -> Measurements | HostFigures:
    """Read a file that `python -m bench.gpu` or, of the processor, `python -m bench` wrote.

    Raises:
        MissingFileError: there is none.
        InputError: it is no such file, or of a miniature, whose times mean nothing.
    """
    if not path.is_file():
        raise MissingFileError(
            what=f"--bench {path} is not there.",
            why="Measured figures are read from it.",
            fix="Write it with python -m bench.gpu --json FILE on a machine with that GPU, or with "
            "python -m bench --json FILE of its processor.",
        )
    try:
        found = json.loads(path.read_text("utf8"))
    except ValueError:
        found = None
    if isinstance(found, dict) and "rows" in found:
        return read_host(found, path.name)
    is_ours = isinstance(found, dict) and any(map(_SECTIONS.match, found))
    if not is_ours or found.get("small"):
        what = "of a miniature" if is_ours else "no file of the benchmarks"
        raise InputError(
            what=f"--bench {path} is {what}.",
            why="Only times of the true size on a GPU say what a job takes.",
            fix="Write it with python -m bench.gpu --json FILE, without --small.",
        )
    return _read(found, path.name)


def _read(found: Mapping[str, Any], name: str) -> Measurements:
    def section(number: str) -> dict[str, Any]:
        return next((v for k, v in found.items() if k.split()[0] == number), {})

    def number(part: str, key: str) -> float | None:
        value = section(part).get(key)
        return float(value) if isinstance(value, int | float) and value > 0 else None

    ceilings, machine = section("B0"), found.get("machine", {})
    products = [float(ceilings[key]) for key in _PRODUCTS if key in ceilings]
    skipped = [v for k, v in section("B4").items() if k.startswith("skipped step: ratio")]
    date = machine.get("date")
    return Measurements(
        device=str(machine.get("device", "")),
        source=f"{name}, {date}" if date else name,
        products=min(products) if products else None,
        copy=number("B0", "copy GB/s, read and written"),
        link=number("B0", "to device GB/s"),
        attention=_by_tokens(section("B1"), _ATTENTION),
        forward=_by_tokens(section("B2"), _FORWARD),
        skipped=float(skipped[0]) if skipped else None,
        vae=_vae(section("B6")),
    )


def _by_tokens(values: Mapping[str, Any], pattern: re.Pattern[str]) -> dict[int, float]:
    matches = ((pattern.match(key), value) for key, value in values.items())
    return {int(m[1]): float(v) for m, v in matches if m and isinstance(v, int | float)}


def _vae(values: Mapping[str, Any]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for size in ("480p", "720p"):
        stock = values.get(f"{size} decode, diffusers float32: s")
        ratio = next(
            (v for k, v in values.items() if k.startswith(f"{size} decode, bfloat16: of")), None
        )
        if isinstance(stock, int | float) and isinstance(ratio, int | float):
            seconds[f"decode {size}"] = float(stock * ratio)
        encode = values.get(f"{size} encode: s")
        if isinstance(encode, int | float):
            seconds[f"encode {size}"] = float(encode)
    return seconds
