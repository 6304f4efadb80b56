"""Who works, on what, and who waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..executor import Executor, Watched, WorkerInfo
from ..statuses import Status
from ..tasks import TaskManager
from .meter import Meter


class Cluster:
    """The view of all workers."""

    def __init__(self, executor: Executor, tasks: TaskManager, meter: Meter) -> None:
        self._executor, self._tasks, self._meter = executor, tasks, meter

    @property
    def executor(self) -> str:
        """What runs the jobs; empty if it does not say."""
        return self._executor.name if isinstance(self._executor, Watched) else ""

    async def workers(self) -> Sequence[WorkerInfo]:
        """All of them, as far as the executor tells."""
        return await self._executor.workers() if isinstance(self._executor, Watched) else ()

    def waiting(self) -> dict[str, Any]:
        """The queue: how many, by id of the API key, and by priority."""
        tasks = [t for t in self._tasks.open_tasks() if t.status <= Status.QUEUED]
        priorities = Counter((task.metadata or {}).get("priority", 0) for task in tasks)
        return {
            "waiting": len(tasks),
            "by_key": dict(Counter(task.key_id for task in tasks)),
            "by_priority": {str(p): priorities[p] for p in sorted(priorities, reverse=True)},
        }

    async def view(self) -> dict[str, Any]:
        """As answers carry it."""
        is_watched = isinstance(self._executor, Watched)
        return {
            "executor": self.executor,
            "workers": [self._worker(worker) for worker in await self.workers()],
            "queue": self.waiting(),
            "links": {"dashboard": self._executor.dashboard if is_watched else None},
        }

    def _worker(self, worker: WorkerInfo) -> dict[str, Any]:
        seconds = self._meter.clock.seconds(worker.task_id)
        return {
            "id": worker.id,
            "node": worker.node,
            "devices": list(worker.devices),
            "models": list(worker.models),
            "status": worker.status,
            "task_id": worker.task_id,
            "seconds_per_step": None if seconds is None else round(seconds, 3),
            "jobs_done": worker.jobs_done,
        }
