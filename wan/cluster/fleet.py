"""The workers of a service as its server knows them. A worker runs one job; one that is quick is
given its next job while it runs, so that it does not stand still between the two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import MissingFileError
from ..service.executor import Job
from ..service.worker import missing_models
from .placement import Plan, Worker, app_name, given, place

QUICK_SECONDS = 2.0
"""A worker whose last job took less is quick. Behind a longer one nothing is gained, and a job that
waits there could begin earlier elsewhere."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Fleet:
    """Keeps account of the workers.

    Args:
        models: as in `model_key`.
        most: workers at the same time; None: as many as the cluster has room for.
    """

    def __init__(self, models: str, most: int | None) -> None:
        self._models, self._most = models, most
        self._workers: dict[str, Worker] = {}
        self._lacks: Mapping[str, str] = {}
        self._pause, self._is_resting = _FIRST_PAUSE, False
        self.room = 0
        """Number of further workers that the cluster has resources for."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a worker of this name."""
        return name in self._workers

    @property
    def workers(self) -> Iterable[Worker]:
        """All of them, those included that are starting."""
        return self._workers.values()

    def find(
        self, messages: Iterable[Mapping[str, Any]], room: int, lacks: Mapping[str, str]
    ) -> None:
        """There is a new connection, and these are the workers.

        Args:
            messages: each as in `Worker.read`.
            room: as the attribute.
            lacks: apps whose weights no machine has, with what is missing.
        """
        found = [Worker.read(message) for message in messages]
        self._workers = {worker.name: worker for worker in found}
        self.room, self._pause, self._is_resting = room, _FIRST_PAUSE, False
        self._lacks = lacks

    def expect_weights(self, job: Job) -> None:
        """See that some machine has those of a job. Raises: ApiError requirements_not_met."""
        if app_name(job.app) in self._lacks:
            text = self._lacks[app_name(job.app)]
            raise missing_models(MissingFileError(text, "No worker can run this app.", ""))

    def expect(self, name: str) -> None:
        """One is being started."""
        self._workers[name] = Worker(name, is_up=False)
        self.room -= 1

    def up(self, message: Mapping[str, Any]) -> None:
        """One has started."""
        self._workers[message["name"]] = Worker.read(message)
        self._pause = _FIRST_PAUSE

    def start_failed(self) -> float:
        """One could not be started: none is until `rested`.

        Returns:
            Seconds to rest.
        """
        pause, self._is_resting = self._pause, True
        self._pause = min(2 * pause, _LONGEST_PAUSE)
        return pause

    def rested(self) -> None:
        """Workers may be started again."""
        self._is_resting = False

    def correct(self, name: str, state: Mapping[str, Any]) -> None:
        """One is not as it seemed: what it says itself counts.

        Args:
            state: task_id, next_id, app and key.
        """
        worker = self._workers.get(name)
        if worker is not None:
            says = {key: state[key] for key in ("task_id", "next_id", "app", "key")}
            self._workers[name] = replace(worker, **says, is_quick=False)

    def remove(self, name: str) -> Worker | None:
        """One is gone, or shall be; what was known of it."""
        return self._workers.pop(name, None)

    def holder(self, task_id: str) -> Worker | None:
        """Who runs a job, or has it as its next."""
        holds = (w for w in self._workers.values() if task_id in (w.task_id, w.next_id))
        return next(holds, None)

    def plan(self, jobs: Iterable[Job]) -> Plan:
        """Who gets which of the waiting jobs, next one first."""
        room = 0 if self._is_resting else self.room
        return place(jobs, self._workers.values(), room, self._most, self._models)

    def give(self, name: str, job: Job) -> bool:
        """A worker gets a job; if it has it already, nothing changes.

        Returns:
            Whether that is its next one, behind the job that it runs.
        """
        self._workers[name] = given(self._workers[name], job, self._models)
        return self._workers[name].next_id == job.task_id

    def take(self, name: str, task_id: str) -> str:
        """A worker does not have a job any more.

        Returns:
            The job that it begins now; empty: none.
        """
        worker = self._workers.get(name)
        if worker is None:
            return ""
        if worker.task_id == task_id:
            self._workers[name] = replace(worker, task_id=worker.next_id, next_id="")
            return worker.next_id
        if worker.next_id == task_id:
            self._workers[name] = replace(worker, next_id="")
        return ""

    def ended(self, name: str, said: Mapping[str, Any]) -> str:
        """A worker has ended a job.

        Args:
            said: task_id and took, in seconds.
        Returns:
            As `take`.
        """
        worker = self._workers.get(name)
        if worker is not None:
            self._workers[name] = replace(worker, is_quick=said["took"] < QUICK_SECONDS)
        return self.take(name, said["task_id"])

    def slow(self, name: str) -> None:
        """What it runs takes longer than was thought."""
        worker = self._workers.get(name)
        if worker is not None:
            self._workers[name] = replace(worker, is_quick=False)

    def next_ids(self) -> list[str]:
        """Jobs that workers have as their next."""
        return [worker.next_id for worker in self._workers.values() if worker.next_id]
