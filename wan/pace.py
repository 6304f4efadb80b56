"""How long each item takes, and how long the rest will."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Measures items that are finished one after the other.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._seconds = 0.0

    def begin(self) -> None:
        """The first of a row of items begins. What items took before is remembered until one is
        finished."""
        self._begun = self._clock()

    def finish(self, done: int) -> None:
        """`done` items of the row are finished."""
        self._seconds = (self._clock() - self._begun) / max(1, done)

    def describe(self, item: str, left: int) -> str:
        """Such as "41 s a step, about 26 min left"; empty before the first item is finished.

        Args:
            item: what is counted.
            left: how many are still to come.
        """
        if not self._seconds:
            return ""
        each = f"{short_time(self._seconds)} a {item}"
        return f"{each}, {self.rest(left)}" if left else each

    def rest(self, left: int) -> str:
        """Such as "about 26 min left".

        Args:
            left: how many items are still to come.
        """
        return f"about {short_time(left * self._seconds)} left"


def short_time(seconds: float) -> str:
    """Such as 0.4 s, 41 s, 26 min or 2.5 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
