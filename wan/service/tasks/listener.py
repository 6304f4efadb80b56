"""What executors say about tasks, taken over into the server's loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..executor import Outcome
from ..records import Event, LogLine
from ..statuses import Status
from ..store import Store
from ..watch.meter import Meter
from .estimate import seconds_left, work_size
from .live import LiveTask

log = logging.getLogger("wan_local")

_ALMOST = 99.0
"""Percent that are not passed before the result is there."""

End = Callable[[LiveTask, Outcome], Awaitable[None]]


class LoopListener:
    """The listener of an executor: callable from any thread, in order, never raising.

    Args:
        live: tasks under way, by id.
        store: keeps statuses and log lines.
        end: called in the loop when a task has ended.
        meter: counts what is heard.
    """

    def __init__(self, live: dict[str, LiveTask], store: Store, end: End, meter: Meter) -> None:
        self._live, self._store, self._end, self._meter = live, store, end, meter
        self._loop = asyncio.get_running_loop()
        self._timings: dict[str, list[tuple[str, float, float]]] = {}
        self._waiting: asyncio.Queue[Callable[[], Awaitable[Any]]] = asyncio.Queue()
        self._saver = asyncio.create_task(self._save_in_order())
        self._is_deaf = False
        self.order: list[str] = []
        """Ids of waiting tasks, next one first."""

    def status(self, task_id: str, status: Status) -> None:
        """It reached a status; one that lies behind it is not told."""
        self._hop(self._status, task_id, status)

    def progress(self, task_id: str, share: float, stage: str) -> None:
        """0..1, and what is happening."""
        self._hop(self._progress, task_id, share, stage)

    def log(self, task_id: str, text: str, mark: str = "") -> None:
        """A line for its log; one whose mark is known there is dropped."""
        self._hop(self._log, task_id, text, mark)

    def retried(self, task_id: str, text: str) -> None:
        """It waits again; why goes into its log."""
        self._hop(self._retried, task_id, text)

    def preview(self, task_id: str, picture: bytes) -> None:
        """A JPEG of the moment."""
        self._hop(self._preview, task_id, picture)

    def queue(self, order: list[str]) -> None:
        """The waiting tasks."""
        self._hop(self._queue, list(order))

    def ended(self, task_id: str, outcome: Outcome) -> None:
        """It has ended."""
        self._hop(self._ended, task_id, outcome)

    async def close(self) -> None:
        """Hear nothing more, and save what was said."""
        self._is_deaf = True
        await self._waiting.join()
        self._saver.cancel()
        with suppress(asyncio.CancelledError):
            await self._saver

    def _hop(self, what: Callable, *values: Any) -> None:
        # RuntimeError: the loop is closed, so nobody listens.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hear, what, *values)

    def _hear(self, what: Callable, *values: Any) -> None:
        if not self._is_deaf:
            what(*values)

    def _status(self, task_id: str, status: Status) -> None:
        live = self._live.get(task_id)
        if live is None or status.is_terminal or status <= live.task.status:
            return
        task = live.task
        if task.status <= Status.QUEUED:
            live.began = time.monotonic()
            task.attempts += 1
            self._meter.begun(task)
            if task_id in self.order:
                self.order.remove(task_id)
        task.status = status
        event = Event(task_id, status)
        self._later(lambda: self._store.save_task(task, event=event))
        self._later(lambda: self._read_timings(live))
        live.changed()

    def _progress(self, task_id: str, share: float, stage: str) -> None:
        live = self._live.get(task_id)
        if live is None:
            return
        task = live.task
        task.progress = max(task.progress, min(_ALMOST, 100 * share))
        task.stage = stage
        self._meter.stage(task, stage)
        task.eta_seconds = self.estimate(live)
        live.changed()

    def estimate(self, live: LiveTask) -> float | None:
        """Seconds left, by its own speed or by earlier tasks."""
        if live.began is None:
            return None
        earlier = self._timings.get(live.task.app, [])
        size = work_size(live.task.input)
        return seconds_left(live.task.progress, live.elapsed, size, earlier)

    def _retried(self, task_id: str, text: str) -> None:
        self._log(task_id, text)
        live = self._live.get(task_id)
        if live is None or not Status.QUEUED < live.task.status < Status.CANCELLING:
            return
        live.task.status, live.task.stage = Status.QUEUED, ""
        live.began = live.task.eta_seconds = None
        event = Event(task_id, Status.QUEUED)
        self._later(lambda: self._store.save_task(live.task, event=event))
        live.changed()

    def _log(self, task_id: str, text: str, mark: str = "") -> None:
        live = self._live.get(task_id)
        if live is None or not text.strip():
            return
        line = LogLine(task_id, text.strip())
        live.logs.append(replace(line, id=f"log_{task_id}_{mark}") if mark else line)
        if len(live.logs) == 1:  # the others go along
            self._later(lambda: self.save_logs(live))
        live.changed()

    async def save_logs(self, live: LiveTask) -> None:
        """Save the lines that are not yet."""
        lines, live.logs = live.logs, []
        if lines:
            await self._store.add_logs(lines)
            live.changed()

    def _preview(self, task_id: str, picture: bytes) -> None:
        live = self._live.get(task_id)
        if live is not None:
            live.preview, live.previews = bytes(picture), live.previews + 1
            live.task.preview = str(live.previews)
            live.changed()

    def _queue(self, order: list[str]) -> None:
        self.order = order
        for task_id in order:
            if task_id in self._live:
                self._live[task_id].changed()

    def _ended(self, task_id: str, outcome: Outcome) -> None:
        live = self._live.get(task_id)
        if live is not None:
            if task_id in self.order:
                self.order.remove(task_id)
            self._later(lambda: self._end(live, outcome))

    async def _read_timings(self, live: LiveTask) -> None:
        app = live.task.app
        self._timings[app] = await self._store.timings(app)

    def _later(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._waiting.put_nowait(work)

    async def _save_in_order(self) -> None:
        while True:
            work = await self._waiting.get()
            try:
                await work()
            except Exception:
                log.exception("A change of a task could not be saved")
            finally:
                self._waiting.task_done()
