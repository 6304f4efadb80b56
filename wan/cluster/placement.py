"""Which worker runs which job: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..service.executor import Job

_LORA = "lora_file"


@dataclass(frozen=True)
class Worker:
    """What is known of a worker of the cluster."""

    name: str
    node: str = ""
    """Address of its machine."""
    app: str = ""
    """Whose model it holds; empty: none."""
    key: str = ""
    """`model_key` of the job that it ran last, or runs."""
    task_id: str = ""
    """What it runs; empty: it is free."""
    next_id: str = ""
    """What it has been given to run after that; empty: nothing."""
    is_quick: bool = False
    """Whether its jobs are short enough for the next to be given while one runs."""
    is_up: bool = True
    """Whether it has started."""
    lacks: Mapping[str, str] | None = None
    """Apps whose weights are not on its machine, with what is missing."""

    @classmethod
    def read(cls, message: Mapping[str, Any]) -> Worker:
        """A worker that has started, as the driver describes it."""
        names = ("name", "node", "app", "key", "task_id", "next_id", "lacks")
        return cls(**{name: message[name] for name in names})

    @property
    def is_free(self) -> bool:
        """Whether it can begin a job."""
        return self.is_up and not self.task_id

    @property
    def takes_next(self) -> bool:
        """Whether it runs a job and can be given the next one already."""
        return bool(self.is_quick and self.task_id and not self.next_id)

    def can_run(self, app: str) -> bool:
        """Whether the app's weights are on its machine."""
        return app not in (self.lacks or {})


@dataclass(frozen=True)
class Plan:
    """What is to be done now."""

    begins: tuple[tuple[Job, str], ...] = ()
    """Jobs with the names of their workers."""
    starts: int = 0
    """Number of workers to start."""


def app_name(app: str) -> str:
    """The app's name without its namespace."""
    return app.rpartition("/")[2]


def model_key(app: str, values: Mapping[str, Any], models: str) -> str:
    """What a worker must hold to begin a job at once: app, models and LoRA.

    Args:
        app: with or without namespace.
        values: of its parameters.
        models: "mini", "tiny" or a folder of weights, which decide kind and precision.
    """
    lora = values.get(_LORA)
    return " ".join(filter(None, (app_name(app), models, str(lora or ""))))


def place(
    jobs: Iterable[Job], workers: Iterable[Worker], room: int, most: int | None, models: str
) -> Plan:
    """Give jobs to workers: to one that holds all of a job's models, else the app's, else nothing
    yet, else to one that is started if there is room, else to any free one, which loads anew, else
    as the next one to a busy one that is quick and holds all of its models.

    A job that waits for a starting worker does not hold up those behind it.

    Args:
        jobs: that wait, next one first; asked for no more than can be placed.
        workers: all there are, those included that are starting.
        room: number of further workers that the cluster has resources for.
        most: workers at the same time; None: as many as there is room for.
        models: as in `model_key`.
    """
    known = list(workers)
    free = [worker for worker in known if worker.is_free]
    quick = [worker for worker in known if worker.takes_next]
    coming = sum(not worker.is_up for worker in known)
    limit = room if most is None else min(room, most - len(known))
    begins: list[tuple[Job, str]] = []
    starts = 0
    for job in jobs:
        if not free and not quick and starts >= limit:
            break
        app, key = app_name(job.app), model_key(job.app, job.values, models)
        able = [worker for worker in free if worker.can_run(app)]
        chosen = _best(able, app, key)
        if chosen is None and coming:
            coming -= 1
            continue
        if chosen is None and starts < limit:
            starts += 1
            continue
        chosen = chosen or next(iter(able), None)
        if chosen is not None:
            free.remove(chosen)
        else:
            chosen = next((worker for worker in quick if worker.key == key), None)
            if chosen is None:
                continue
            quick.remove(chosen)
        begins.append((job, chosen.name))
    return Plan(tuple(begins), starts)


def given(worker: Worker, job: Job, models: str) -> Worker:
    """A worker that was given a job, which it runs now or next."""
    if job.task_id in (worker.task_id, worker.next_id):
        return worker
    if worker.task_id:  # of the same models
        return replace(worker, next_id=job.task_id)
    key = model_key(job.app, job.values, models)
    return replace(worker, task_id=job.task_id, app=app_name(job.app), key=key)


def _best(free: list[Worker], app: str, key: str) -> Worker | None:
    """The one that has the least to load, if that is less than everything and another model."""
    tests = (lambda w: w.key == key, lambda w: w.app == app, lambda w: not w.app)
    for test in tests:
        found = next(filter(test, free), None)
        if found is not None:
            return found
    return None
