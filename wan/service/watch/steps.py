"""How long a step of sampling takes, by what tasks say that they are doing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

_STEP = re.compile(
    r"\b[Ss]ampler? (?P<step>\d+)/\d+|\bclip (?P<clip>\d+) of \d+, step (?P<of>\d+) "
)
"""What the stages of the apps and of the nodes look like."""


class StepClock:
    """Measures steps of many tasks at once.

    Args:
        clock: gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, tuple[int, int, float]] = {}
        self._seconds: dict[str, float] = {}

    def hear(self, task_id: str, stage: str) -> tuple[int, float] | None:
        """Take in a stage, such as "sample 7/20".

        Returns:
            Steps that are finished since the one before, and seconds of each; None: no step is.
        """
        found = _STEP.search(stage)
        if found is None:
            self._last.pop(task_id, None)  # what comes in between is no step
            return None
        clip, step = int(found["clip"] or 0), int(found["step"] or found["of"])
        at, before = self._clock(), self._last.get(task_id)
        if before is not None and before[0] == clip and step <= before[1]:
            return None
        self._last[task_id] = clip, step, at
        if before is None or before[0] != clip:
            return None
        steps = step - before[1]
        self._seconds[task_id] = (at - before[2]) / steps
        return steps, self._seconds[task_id]

    def seconds(self, task_id: str | None) -> float | None:
        """Of the last step of a task that runs, if one is finished."""
        return self._seconds.get(task_id or "")

    def forget(self, task_id: str) -> None:
        """The task has ended."""
        self._last.pop(task_id, None)
        self._seconds.pop(task_id, None)
