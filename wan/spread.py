"""Long work in parts that do not depend on each other, so that other machines can do some of them.

A part is a function of a module with values that can be sent: arrays, paths as text, numbers.
Whoever spreads work gives every part to some process and the results back in order; with one
process alone it is the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .progress import Reporter


@dataclass(frozen=True)
class Part:
    """Neighbouring frames."""

    first: int
    """Number of the first one."""
    end: int
    """Number behind the last one."""

    @property
    def frames(self) -> slice:
        """Of a video."""
        return slice(self.first, self.end)


class Spread(Protocol):
    """Does parts of some work in several places."""

    def map(
        self,
        work: Callable[..., Any],
        parts: Iterable[tuple[Any, ...]],
        reporter: Reporter,
        device: str,
    ) -> Iterator[Any]:
        """Results in the order of the parts.

        Args:
            work: a function of a module.
            parts: its arguments for each part; asked for a few at a time.
            reporter: asked whether to stop while a result is waited for.
            device: type of the device that the work uses, "cpu" or "cuda".
        """
        ...


def plan_parts(count: int, size: int) -> list[Part]:
    """All frames of a video in parts of `size`; the last one may be shorter."""
    return [Part(first, min(first + size, count)) for first in range(0, count, size)]
