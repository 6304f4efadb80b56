"""What can be seen of a cluster's workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..service.executor import WorkerInfo
from .placement import Worker


class View:
    """What the executor's own records do not hold: devices and ended jobs."""

    def __init__(self) -> None:
        self._devices: dict[str, str] = {}
        self._done: Counter[str] = Counter()

    def hear(self, name: str, said: Mapping[str, Any]) -> None:
        """A worker said something."""
        if said["kind"] == "ended":
            self._done[name] += 1
        elif said["kind"] == "holds":
            self._devices[name] = said["device"]

    def infos(self, workers: Iterable[Worker]) -> list[WorkerInfo]:
        """As the service shows them."""
        return [
            WorkerInfo(
                id=worker.name,
                node=worker.node,
                status="starting" if not worker.is_up else "busy" if worker.task_id else "idle",
                task_id=worker.task_id or None,
                devices=(self._devices[worker.name],) if worker.name in self._devices else (),
                models=(worker.key,) if worker.key else (),
                jobs_done=self._done[worker.name],
            )
            for worker in workers
        ]
