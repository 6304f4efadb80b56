"""The executor without ComfyUI: one job at a time in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import WanError
from .executor import Job, Listener, Outcome, WorkerInfo
from .lines import LineProcess, exit_words
from .problems import ApiError
from .queue import FairQueue
from .statuses import Status

log = logging.getLogger("wan_local")

_GRACE = 60.0
"""Seconds that a job has to notice that it was cancelled, before its process is killed."""
_NAME = "The process that runs tasks"


class WorkerExecutor:
    """Runs jobs in `python -m wan worker`; a crash there is the end of that job and nothing else.

    Args:
        arguments: of that command, which say how jobs are computed; a folder of weights by its
            whole path.
        device: that they name, until the process says which one that is.
        grace: seconds between asking a job to stop and killing its process.
        expect: called in a thread before a job is taken; its WanError says which weights are
            missing.
    """

    name = "worker"
    dashboard = None

    def __init__(
        self,
        arguments: Sequence[str],
        device: str = "auto",
        grace: float = _GRACE,
        expect: Callable[[Job], None] | None = None,
    ) -> None:
        self._command = ["worker", *arguments]
        self._grace, self._expect = grace, expect
        self._queue = FairQueue()
        self._running: Job | None = None
        self._cancelled: set[str] = set()
        self._news = asyncio.Event()
        self._process: LineProcess | None = None
        self._devices, self._models = (device,), ()
        self._is_ready = False
        self._done = 0
        self._listener: Listener | None = None
        self._loop: asyncio.Task[None] | None = None
        self._killer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs jobs, if there is one."""
        return self._process.pid if self._process else None

    async def start(self, listener: Listener) -> None:
        """Ready to take jobs; the process begins with the first."""
        self._listener = listener
        self._loop = asyncio.create_task(self._work())

    async def submit(self, job: Job) -> None:
        """Queue a job. Raises: ApiError requirements_not_met."""
        if self._expect is not None:
            try:
                await asyncio.to_thread(self._expect, job)
            except WanError as error:
                raise missing_models(error) from error
        self._queue.add(job)
        self._tell_queue()
        self._news.set()

    async def cancel(self, task_id: str) -> None:
        """Take it out of the queue, or ask its process to stop."""
        if self._queue.remove(task_id) is not None:
            self._tell_queue()
            self._listener.ended(task_id, Outcome(Status.CANCELLED))
        elif self._running is not None and self._running.task_id == task_id:
            self._cancelled.add(task_id)
            self._send({"cancel": task_id})
            if self._killer is None:
                loop = asyncio.get_running_loop()
                self._killer = loop.call_later(self._grace, self._kill)

    async def adopt(self, job: Job) -> bool:
        """No job outlives the server: its process ends with it."""
        return False

    async def forget(self, task_id: str) -> None:
        """Nothing is kept of ended jobs."""

    async def workers(self) -> list[WorkerInfo]:
        """The one process, also while it has not been started yet."""
        status = "idle"
        if self._running is not None:
            status = "busy" if self._is_ready else "starting"
        return [
            WorkerInfo(
                "worker",
                platform.node(),
                status,
                self._running.task_id if self._running else None,
                self._devices,
                self._models if self.pid else (),
                self._done,
            )
        ]

    async def close(self) -> None:
        """Stop everything at once."""
        if self._loop:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        await self._replace()

    async def _work(self) -> None:
        while True:
            while (job := self._queue.pop()) is None:
                self._news.clear()
                await self._news.wait()
            self._running = job
            self._tell_queue()
            try:
                outcome = await self._run(job)
            except Exception as error:  # the jobs behind it must run all the same
                log.exception("A job was lost")
                await self._replace()
                text = f"The process that runs tasks cannot be used: {error}."
                outcome = Outcome(Status.FAILED, error=text)
            self._running = None
            self._done += 1
            self._queue.done(job.task_id)
            if self._killer:
                self._killer.cancel()
                self._killer = None
            self._cancelled.discard(job.task_id)
            self._listener.ended(job.task_id, outcome)

    async def _run(self, job: Job) -> Outcome:
        if self.pid is None:
            self._is_ready, self._models = False, ()
            self._process = await LineProcess.begin(self._command, _NAME)
        process = self._process
        self._listener.status(job.task_id, Status.PREPARING)
        self._send(
            {
                "run": {
                    "task_id": job.task_id,
                    "app": job.app,
                    "values": plain_values(job.values),
                    "folder": str(job.folder),
                }
            }
        )
        if job.task_id in self._cancelled:  # it came while the process was started
            self._send({"cancel": job.task_id})
        async for message in process.messages():
            if message["task_id"] != job.task_id:
                continue
            self._is_ready = True
            if message["kind"] == "ended":
                if message["is_broken"]:
                    await self._replace()
                return read_outcome(message)
            self._take(message)
        code = await process.wait()
        if job.task_id in self._cancelled:
            return Outcome(Status.CANCELLED)
        return Outcome(
            Status.FAILED,
            error=f"The process that ran the task ended ({exit_words(code)}), perhaps for want of "
            "memory. Try fewer frames or a smaller size; the server's log may say more.",
        )

    def _take(self, message: dict[str, Any]) -> None:
        kind, task_id = message["kind"], message["task_id"]
        if kind == "status":
            self._listener.status(task_id, Status(message["status"]))
        elif kind == "progress":
            self._listener.progress(task_id, message["share"], message["stage"])
        elif kind == "log":
            self._listener.log(task_id, message["text"])
        elif kind == "holds":
            self._devices, self._models = (message["device"],), tuple(message["models"])

    def _send(self, message: dict[str, Any]) -> None:
        if self._process:
            self._process.send(message)

    async def _replace(self) -> None:
        """Have the next job begin in a new process."""
        self._kill()
        if self._process:
            await self._process.wait()

    def _kill(self) -> None:
        if self._process:
            self._process.kill()

    def _tell_queue(self) -> None:
        self._listener.queue([job.task_id for job in self._queue.order()])


def missing_models(error: WanError) -> ApiError:
    """The refusal of a job whose weights are not there."""
    text = " ".join(str(error).split())
    need = {"type": "model", "key": "models", "message": text, "action": {"type": "download"}}
    return ApiError("requirements_not_met", text, [need])


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A job's values as JSON holds them: paths become texts."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def read_outcome(message: Mapping[str, Any]) -> Outcome:
    """The outcome in a message of kind ended."""
    return Outcome(
        Status(message["status"]),
        {name: Path(path) for name, path in message.get("files", {}).items()},
        message.get("facts", {}),
        message.get("error", ""),
    )
