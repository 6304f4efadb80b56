"""The answer to GET /metrics."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter

from ..records import Task
from ..settings import Settings
from ..statuses import Status
from ..store import Store
from ..tasks import TaskManager
from .cluster import Cluster
from .exposition import histograms, metric
from .meter import Meter

_STATES = ("idle", "busy", "starting")
_OPEN = [s for s in Status if Status.UNKNOWN < s < Status.COMPLETED]


class Metrics:
    """Gathers what Prometheus asks for.

    Args:
        version: of the pack.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        tasks: TaskManager,
        cluster: Cluster,
        meter: Meter,
        version: str,
    ) -> None:
        self._settings, self._store, self._tasks = settings, store, tasks
        self._cluster, self._meter, self._version = cluster, meter, version

    async def text(self) -> str:
        """All metrics, in the text format."""
        lines = [
            *self._service(),
            *self._open_tasks(self._tasks.open_tasks()),
            *self._counted(),
            *await self._workers(),
            *await self._disk(),
        ]
        return "\n".join(lines) + "\n"

    def _service(self) -> list[str]:
        info = {"version": self._version, "executor": self._cluster.executor}
        return [
            *metric("wan_service_info", "gauge", "What runs here.", [(info, 1)]),
            *metric(
                "wan_service_start_time_seconds",
                "gauge",
                "When the service started, Unix time. Counters begin then.",
                [({}, self._meter.started)],
            ),
        ]

    def _open_tasks(self, tasks: list[Task]) -> list[str]:
        counts = Counter((task.app, task.status) for task in tasks)
        apps = sorted({task.app for task in tasks})
        samples = [
            ({"app": app, "status": status.text}, counts[app, status])
            for app in apps
            for status in _OPEN
        ]
        waiting = self._cluster.waiting()["waiting"]
        text = "Tasks that have not ended, by app and status."
        return [
            *metric("wan_tasks", "gauge", text, samples),
            *metric("wan_queue_length", "gauge", "Tasks that wait.", [({}, waiting)]),
        ]

    def _counted(self) -> list[str]:
        meter = self._meter
        ended = [({"app": a, "outcome": o}, n) for (a, o), n in sorted(meter.ended.items())]
        told = [({"result": result}, n) for result, n in sorted(meter.deliveries.items())]
        return [
            *metric("wan_tasks_ended_total", "counter", "Ended tasks, by app and outcome.", ended),
            *histograms(
                "wan_task_waiting_seconds",
                "Time from the request, or the time it names, to the start.",
                meter.waiting,
                "app",
            ),
            *histograms(
                "wan_task_running_seconds",
                "Time from the start to the end of completed tasks.",
                meter.running,
                "app",
            ),
            *histograms("wan_step_seconds", "Time of a step of sampling.", meter.steps, "app"),
            *metric(
                "wan_webhook_attempts_total",
                "counter",
                "Attempts to deliver a webhook: delivered, failed (to be repeated), given_up.",
                told,
            ),
        ]

    async def _workers(self) -> list[str]:
        workers = await self._cluster.workers()
        states = Counter(worker.status for worker in workers)
        done = [({"worker": w.id, "node": w.node}, w.jobs_done) for w in workers]
        text = "Jobs that a worker brought to an end."
        return [
            *metric(
                "wan_workers",
                "gauge",
                "Workers by state.",
                [({"state": state}, states[state]) for state in _STATES],
            ),
            *metric("wan_worker_jobs_total", "counter", text, done),
        ]

    async def _disk(self) -> list[str]:
        files, size = await self._store.stored()
        free = (await asyncio.to_thread(shutil.disk_usage, self._settings.data)).free
        return [
            *metric("wan_files", "gauge", "Files that are kept.", [({}, files)]),
            *metric("wan_files_bytes", "gauge", "Bytes of the files.", [({}, size)]),
            *metric("wan_free_bytes", "gauge", "Bytes free on their disk.", [({}, free)]),
        ]
