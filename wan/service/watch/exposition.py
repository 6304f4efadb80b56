"""Prometheus' text format, version 0.0.4.

Written here because it is a page of code, while its package would be one more to install for a
route that has to be there on every machine; the tests read what comes out with that package.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]
"""Labels and value."""


class Histogram:
    """Counts values below bounds.

    Args:
        bounds: rising; infinity is added.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def lines(self, name: str, labels: Mapping[str, str]) -> Iterable[str]:
        """Its samples."""
        below = 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            below += count
            yield _sample(f"{name}_bucket", {**labels, "le": _number(bound)}, below)
        yield _sample(f"{name}_sum", labels, self._sum)
        yield _sample(f"{name}_count", labels, below)


def metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    """The lines of a gauge or counter.

    Args:
        kind: gauge or counter.
        text: what it is, one sentence.
    """
    return [*_head(name, kind, text), *(_sample(name, labels, value) for labels, value in samples)]


def histograms(name: str, text: str, found: Mapping[str, Histogram], label: str) -> list[str]:
    """The lines of histograms that differ in one label.

    Args:
        found: by the label's value.
    """
    lines = _head(name, "histogram", text)
    for value, histogram in found.items():
        lines += histogram.lines(name, {label: value})
    return lines


def _head(name: str, kind: str, text: str) -> list[str]:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return [f"# HELP {name} {escaped}", f"# TYPE {name} {kind}"]


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {_number(value)}" if inner else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
