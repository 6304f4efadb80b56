"""Counts what happens to tasks while the server runs."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

from ..records import Task, now
from ..statuses import Status
from .exposition import Histogram
from .steps import StepClock

_WAITING = (1, 5, 15, 60, 300, 900, 3600, 14400)
_RUNNING = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_STEP = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)


class Meter:
    """Counters since the start of the server. Everything is called in its event loop."""

    def __init__(self, clock: StepClock | None = None) -> None:
        self.started = time.time()
        """Unix seconds."""
        self.ended: Counter[tuple[str, str]] = Counter()
        """By app and outcome."""
        self.deliveries: Counter[str] = Counter()
        """Attempts to deliver a webhook, by result: delivered, failed, given_up."""
        self.waiting: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_WAITING))
        """Seconds between the request, or the time it named, and the start; by app."""
        self.running: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_RUNNING))
        """Seconds from the start to the end, of completed tasks; by app."""
        self.steps: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(_STEP))
        """Seconds of a step of sampling; by app."""
        self.clock = clock or StepClock()

    def begun(self, task: Task) -> None:
        """A task left the queue; what it waits before another attempt is not counted."""
        if task.attempts > 1:
            return
        since = max(task.created_at, task.run_at or task.created_at)
        self.waiting[task.app].add(max(0.0, (now() - since).total_seconds()))

    def stage(self, task: Task, stage: str) -> None:
        """A task says what it is doing."""
        finished = self.clock.hear(task.id, stage)
        if finished is not None:
            steps, seconds = finished
            self.steps[task.app].add(seconds, steps)

    def finished(self, task: Task, seconds: float) -> None:
        """A task has ended; `seconds` after it began, or 0 if it never did."""
        self.clock.forget(task.id)
        self.ended[task.app, task.status.text] += 1
        if task.status is Status.COMPLETED and seconds > 0:
            self.running[task.app].add(seconds)

    def delivery(self, result: str) -> None:
        """An attempt to deliver a webhook."""
        self.deliveries[result] += 1
