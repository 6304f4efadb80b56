"""The process that runs the jobs of `python -m wan serve`: JSON lines in, JSON lines out.

In come {"run": {task_id, app, values, folder}} and {"cancel": task_id}; out go {"kind": ...} for
status, progress, log and ended. The input ends when the server does, and so does this. There are no
previews: the pack has no cheap way from latents to colours (inside ComfyUI the host has one).
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any, TextIO

from .child import Channel, end_with_server
from .engine import Engine
from .runner import JobRunner


class Worker:
    """Runs the jobs that arrive, one after the other.

    Args:
        runner: runs each.
        channel: where messages go.
    """

    def __init__(self, runner: JobRunner, channel: Channel) -> None:
        self._runner, self._channel = runner, channel
        self._jobs: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()

    def listen(self, lines: TextIO) -> None:
        """Take messages until there are no more, then end the process."""
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                self._jobs.put(message["run"])
        os._exit(0)  # the server is gone; whatever computes here would compute for nobody

    def work(self) -> None:
        """Run jobs forever."""
        while True:
            job = self._jobs.get()
            task_id = job["task_id"]

            def tell(kind: str, task_id: str = task_id, **facts: Any) -> None:
                self._channel.tell({"kind": kind, "task_id": task_id, **facts})

            tell("ended", **self._runner.run(job, tell, lambda t=task_id: t in self._cancelled))


def run_worker(engine: Engine) -> int:
    """Serve jobs from stdin until it ends."""
    end_with_server()
    worker = Worker(JobRunner(engine), Channel())
    threading.Thread(target=worker.listen, args=(sys.stdin,), daemon=True).start()
    worker.work()
    return 0
