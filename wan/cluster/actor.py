"""A worker of the cluster: one process that keeps one model warm and runs one job at a time, with
the next one in its hands.

Made into a Ray actor by the driver. Its methods answer at once, since the job runs in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..service.statuses import Status
from .clips import StoredClips
from .messages import Messages
from .node import inspect_node
from .options import WorkerOptions
from .spread import RaySpread
from .storage import Storage, job_folder

log = logging.getLogger("wan_local")

_LOOK_SECONDS = 1.0
_DISTANCE, _DISTANCE_IN_HASTE = 0.02, 0.1
"""Seconds between two answers with news; the second while another job waits here."""
_REMEMBERED = 64
"""Jobs that a worker knows to have taken; what may be asked of it twice are its last three."""


class WorkerActor:
    """Runs the jobs of one service.

    Args:
        options: where files are and how jobs run.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._storage = Storage.open(options.storage)
        self._runner: Any = None
        self._job: Mapping[str, Any] = {}
        self._next: Mapping[str, Any] | None = None
        self._is_busy = self._is_broken = False
        self._turn = threading.Lock()
        """Held where one job follows another."""
        self._taken: deque[tuple[str, int]] = deque(maxlen=_REMEMBERED)
        self._cancelled: set[str] = set()
        self._said = Messages()
        self._contact = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def hello(self) -> dict[str, Any]:
        """What its machine has, and its state."""
        self._touch()
        report = await asyncio.to_thread(inspect_node, self._options.engine.models, _address())
        return {**report, **await self.state()}

    async def state(self) -> dict[str, Any]:
        """The job that it runs, its attempt, and the next job (empty if none); app and key of what
        it holds."""
        self._touch()
        with self._turn:
            job = self._job
            return {
                "task_id": job.get("task_id", "") if self._is_busy else "",
                "attempt": job.get("attempt", 0) if self._is_busy else 0,
                "next_id": self._next["task_id"] if self._next else "",
                "app": job.get("app", ""),
                "key": job.get("key", ""),
            }

    async def begin(self, job: Mapping[str, Any]) -> bool:
        """Begin a job, at once or after the one that runs; once however often it is asked.

        Args:
            job: task_id, attempt, app, key, values, and files: parameters with names in the storage.
        Returns:
            Whether it was taken, now or before; False: there are two already, or the models may be
            broken.
        """
        self._touch()
        mark = (job["task_id"], job["attempt"])
        with self._turn:
            if mark in self._taken:
                return True
            if self._next is not None or self._is_broken:
                return False
            self._taken.append(mark)
            # Who gives a job has heard the ends of all but the last one, which may just have come.
            self._said.keep_only(self._job.get("task_id", ""))
            if self._is_busy:
                self._next = job
                return True
            self._job, self._is_busy = job, True
        threading.Thread(target=self._work, daemon=True).start()
        return True

    async def give_back(self, task_id: str) -> int:
        """Give up the next job.

        Returns:
            Its attempt; 0: it is not the next job, perhaps because it has begun.
        """
        self._touch()
        with self._turn:
            if self._next is None or self._next["task_id"] != task_id:
                return 0
            attempt, self._next = self._next["attempt"], None
            self._cancelled.discard(task_id)
            return attempt

    async def news(self, after: int, seconds: float) -> list[dict[str, Any]]:
        """What was said after a number; waits for it.

        Args:
            after: number of the last message that is known; 0: none.
            seconds: to wait at most.
        Returns:
            Messages with number, task_id, attempt and kind. Those of a job are kept until the one
            after the next is given.
        """
        self._touch()
        distance = _DISTANCE if self._next is None else _DISTANCE_IN_HASTE
        found = await self._said.after(after, seconds, distance)
        self._touch()
        return found

    async def cancel(self, task_id: str) -> None:
        """Have a job stop at its next step."""
        self._touch()
        self._cancelled.add(task_id)

    async def leave(self) -> None:
        """End, unless a job runs: then the end of that is found in the storage, and this process
        ends when nobody asked for it for some time."""
        if not self._is_busy:
            from ray.actor import exit_actor

            exit_actor()

    def _touch(self) -> None:
        self._contact = time.monotonic()
        if self._watch is None:
            self._said.use(asyncio.get_running_loop())
            self._watch = asyncio.get_running_loop().create_task(self._end_when_forgotten())

    async def _end_when_forgotten(self) -> None:
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS, self._options.idle_seconds))
            silent = time.monotonic() - self._contact
            if not self._is_busy and silent > self._options.idle_seconds:
                os._exit(0)  # Ray's own way out exists only in a method that somebody called

    def _work(self) -> None:
        """Run jobs until there is none."""
        goes_on = True
        while goes_on:
            job, began = self._job, time.monotonic()
            end = self._do(job)
            took = time.monotonic() - began
            facts = {"task_id": job["task_id"], "attempt": job["attempt"], "took": took}
            with self._turn:
                self._is_broken = bool(end.get("is_broken"))
                goes_on = self._is_busy = self._next is not None and not self._is_broken
                if goes_on:
                    self._job, self._next = self._next, None
            # From here on another thread may have begun a job.
            self._said.add("ended", {**end, **facts})

    def _do(self, job: Mapping[str, Any]) -> dict[str, Any]:
        def tell(kind: str, **facts: Any) -> None:
            self._said.add(kind, {**facts, "task_id": job["task_id"], "attempt": job["attempt"]})

        scratch = Path(tempfile.mkdtemp(prefix="wan-job-"))
        try:
            return self._deliver(job, self._run(job, scratch, tell))
        except BaseException as error:
            log.exception("A job could not be run")
            text = f"The worker could not use the storage: {type(error).__name__}: {error}"
            return {"status": Status.FAILED, "error": text, "is_broken": True}
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            self._cancelled.discard(job["task_id"])

    def _run(
        self, job: Mapping[str, Any], scratch: Path, tell: Callable[..., None]
    ) -> dict[str, Any]:
        if self._runner is None:
            from ..runner import JobRunner

            self._runner = JobRunner(self._options.engine, RaySpread())
        values = dict(job["values"])
        for number, (parameter, name) in enumerate(job["files"].items()):
            folder = scratch / "inputs" / str(number)
            values[parameter] = str(self._storage.open_input(name, folder))
        clips = StoredClips(
            self._storage, job["task_id"], job["attempt"], lambda text: tell("log", text=text)
        )
        own = scratch / "job"
        own.mkdir()
        return self._runner.run(
            {**job, "values": values, "folder": str(own)},
            tell,
            lambda: job["task_id"] in self._cancelled,
            clips,
        )

    def _deliver(self, job: Mapping[str, Any], end: dict[str, Any]) -> dict[str, Any]:
        """Put the files into the storage, then say how it ended, if nobody else has."""
        task_id, attempt = job["task_id"], job["attempt"]
        if self._storage.outcome(task_id) is not None:
            return {**end, "files": {}}
        names = {}
        for output, path in end.get("files", {}).items():
            names[output] = f"{job_folder(task_id)}/{attempt}/{Path(path).name}"
            self._storage.put(names[output], Path(path))
        end = {**end, "files": names, "attempt": attempt}
        if not self._storage.claim(task_id, end):  # another attempt was first
            for name in names.values():
                self._storage.delete(name)
        return end


def _address() -> str:
    from ray.util import get_node_ip_address

    return get_node_ip_address()
