"""The executor without ComfyUI: one job at a time in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import WanError
from .executor import Job, Listener, Outcome
from .problems import ApiError
from .statuses import Status

log = logging.getLogger("wan_local")

_ROOT = Path(__file__).resolve().parents[2]
_LINE = 1 << 24
_GRACE = 60.0
"""Seconds that a job has to notice that it was cancelled, before its process is killed."""


class WorkerExecutor:
    """Runs jobs in `python -m wan worker`; a crash there is the end of that job and nothing else.

    Args:
        models: "mini", "tiny" or the whole path of a folder of weights.
        device: "auto" or a torch device.
        offload: what leaves the device in every job; None: as each job says.
        grace: seconds between asking a job to stop and killing its process.
        expect: called in a thread before a job is taken; its WanError says which weights are
            missing.
        ranks: how many processes compute one video.
    """

    def __init__(
        self,
        models: str,
        device: str = "auto",
        offload: str | None = None,
        grace: float = _GRACE,
        expect: Callable[[Job], None] | None = None,
        ranks: int = 1,
    ) -> None:
        self._command = [sys.executable, "-m", "wan", "worker", "--models", models]
        self._command += ["--device", device, "--ranks", str(ranks)]
        self._command += ["--offload", offload] if offload else []
        self._grace, self._expect = grace, expect
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._cancelled: set[str] = set()
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._listener: Listener | None = None
        self._loop: asyncio.Task[None] | None = None
        self._killer: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that runs jobs, if there is one."""
        process = self._process
        return process.pid if process and process.returncode is None else None

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
                raise _missing(error) from error
        self._waiting.append(job)
        self._tell_queue()
        self._news.set()

    async def cancel(self, task_id: str) -> None:
        """Take it out of the queue, or ask its process to stop."""
        waiting = next((job for job in self._waiting if job.task_id == task_id), None)
        if waiting is not None:
            self._waiting.remove(waiting)
            self._tell_queue()
            self._listener.ended(task_id, Outcome(Status.CANCELLED))
        elif self._running is not None and self._running.task_id == task_id:
            self._cancelled.add(task_id)
            self._send({"cancel": task_id})
            if self._killer is None:
                loop = asyncio.get_running_loop()
                self._killer = loop.call_later(self._grace, self._kill)

    async def close(self) -> None:
        """Stop everything at once."""
        if self._loop:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        await self._replace()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            self._running = job = self._waiting.popleft()
            self._tell_queue()
            try:
                outcome = await self._run(job)
            except Exception as error:  # the jobs behind it must run all the same
                log.exception("A job was lost")
                await self._replace()
                text = f"The process that runs tasks cannot be used: {error}."
                outcome = Outcome(Status.FAILED, error=text)
            self._running = None
            if self._killer:
                self._killer.cancel()
                self._killer = None
            self._cancelled.discard(job.task_id)
            self._listener.ended(job.task_id, outcome)

    async def _run(self, job: Job) -> Outcome:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=_ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE,
                start_new_session=True,  # Ctrl-C is for the server: it says how its jobs end
            )
        self._listener.status(job.task_id, Status.PREPARING)
        self._send(
            {
                "run": {
                    "task_id": job.task_id,
                    "app": job.app,
                    "values": {k: _plain(v) for k, v in job.values.items()},
                    "folder": str(job.folder),
                }
            }
        )
        if job.task_id in self._cancelled:  # it came while the process was started
            self._send({"cancel": job.task_id})
        while line := await process.stdout.readline():
            message = _message(line)
            if message is None or message["task_id"] != job.task_id:
                continue
            if message["kind"] == "ended":
                if message["is_broken"]:
                    await self._replace()
                return _outcome(message)
            self._take(message)
        code = await process.wait()
        if job.task_id in self._cancelled:
            return Outcome(Status.CANCELLED)
        return Outcome(
            Status.FAILED,
            error=f"The process that ran the task ended ({_words(code)}), perhaps for want of "
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

    def _send(self, message: dict[str, Any]) -> None:
        process = self._process
        if process is not None and process.stdin is not None and process.returncode is None:
            with suppress(ConnectionError, RuntimeError):  # it has just died
                process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _replace(self) -> None:
        """Have the next job begin in a new process."""
        self._kill()
        if self._process:
            await self._process.wait()

    def _kill(self) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    def _tell_queue(self) -> None:
        self._listener.queue([job.task_id for job in self._waiting])


def _message(line: bytes) -> dict[str, Any] | None:
    """What the process said; None for the half of a line that it was killed in."""
    try:
        return json.loads(line)
    except ValueError:
        log.warning("The process that runs tasks said %r", line[:200])
        return None


def _missing(error: WanError) -> ApiError:
    """The refusal of a job whose weights are not there."""
    text = " ".join(str(error).split())
    need = {"type": "model", "key": "models", "message": text, "action": {"type": "download"}}
    return ApiError("requirements_not_met", text, [need])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _outcome(message: dict[str, Any]) -> Outcome:
    return Outcome(
        Status(message["status"]),
        {name: Path(path) for name, path in message.get("files", {}).items()},
        message.get("facts", {}),
        message.get("error", ""),
    )


def _words(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"
