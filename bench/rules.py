"""Who comes next and where it runs: the cluster's own rules, and plain ones beside them.

The simulation (`bench/simulate.py`) knows only `Rules`. The real ones are `wan.service.queue` and
`wan.cluster.placement`, called as the cluster's driver calls them.
"""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MODELS = "14B"
"""Name of the weights, the same in all of a cluster."""


@dataclass(frozen=True)
class Task:
    """A job as queue and placement see it (`wan.service.executor.Job`), and what it takes."""

    task_id: str
    app: str
    key_id: str
    priority: int
    values: Mapping[str, Any]
    arrival: float
    """Seconds after the beginning."""
    service: float
    """Seconds of work on a worker that holds its models."""
    pieces: int = 1
    """Clips that outlive a worker, of equal length; 1: all is lost with it."""


@dataclass
class Machine:
    """A worker with one GPU, as placement sees it (`wan.cluster.placement.Worker`)."""

    number: int
    name: str
    node: str
    app: str = ""
    key: str = ""
    task_id: str = ""
    is_up: bool = True
    lacks: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_free(self) -> bool:
        """Whether it can begin a job."""
        return self.is_up and not self.task_id

    @property
    def takes_next(self) -> bool:
        """Whether a job may be given ahead; no, as jobs take minutes."""
        return False

    def can_run(self, app: str) -> bool:
        """Whether the app's weights are on its machine."""
        return app not in self.lacks


class Queue(Protocol):
    """Waiting jobs in their order."""

    def __len__(self) -> int:
        """How many wait."""
        ...

    def add(self, job: Any) -> None:
        """One more, or one again."""
        ...

    def first(self) -> Any:
        """The next one, or None."""
        ...

    def take(self, task_id: str) -> Any:
        """It begins."""
        ...

    def done(self, task_id: str) -> None:
        """It has ended."""
        ...


@dataclass(frozen=True)
class Rules:
    """How a cluster decides."""

    name: str
    queue: Callable[[], Queue]
    choose: Callable[[Task, list[Machine]], Machine | None]
    """Gives a job one of the free workers, or none yet."""
    key: Callable[[Task], str]
    """What a worker holds after a job."""


class ArrivalQueue:
    """First come first served, whoever it is: what fairness is compared with."""

    def __init__(self) -> None:
        self._line: list[tuple[int, str]] = []
        self._tasks: dict[str, Task] = {}
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._line)

    def add(self, job: Task) -> None:
        """At the end, or at its old place if it was there before."""
        number = self._numbers.setdefault(job.task_id, len(self._numbers))
        self._tasks[job.task_id] = job
        insort(self._line, (number, job.task_id))

    def first(self) -> Task | None:
        """The one that came first."""
        return self._tasks[self._line[0][1]] if self._line else None

    def take(self, task_id: str) -> Task:
        """It begins."""
        self._line.remove((self._numbers[task_id], task_id))
        return self._tasks.pop(task_id)

    def done(self, task_id: str) -> None:
        """Nothing follows from it."""


def first_free(task: Task, free: list[Machine]) -> Machine | None:
    """Any worker: what placement by models is compared with."""
    return free[0] if free else None


def plain_key(task: Task) -> str:
    """App and LoRA."""
    return f"{task.app} {task.values.get('lora_file') or ''}".strip()


PLAIN = Rules("arrival order, any worker", ArrivalQueue, first_free, plain_key)


def real_rules() -> Rules | None:
    """The cluster's own; None in a version without them."""
    try:
        from wan.cluster.placement import model_key, place
        from wan.service.queue import FairQueue
    except ImportError:
        return None

    def choose(task: Task, free: list[Machine]) -> Machine | None:
        # One job at a time is the same as the whole queue: taking it changes whose turn is next,
        # and all workers have all files.
        begins = place([task], free, 0, None, MODELS).begins  # type: ignore[list-item]
        name = begins[0][1] if begins else None
        return next((machine for machine in free if machine.name == name), None)

    def key(task: Task) -> str:
        return model_key(task.app, task.values, MODELS)

    return Rules("the cluster's own", FairQueue, choose, key)


def without_fairness(rules: Rules) -> Rules:
    """Its placement, in arrival order."""
    return Rules("arrival order", ArrivalQueue, rules.choose, rules.key)


def without_affinity(rules: Rules) -> Rules:
    """Its order, on any free worker."""
    return Rules("any free worker", rules.queue, first_free, rules.key)
