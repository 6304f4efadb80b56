"""Takes requests, hands jobs to the executor, tells who watches, and ends tasks."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from ..catalog import Catalog
from ..executor import Executor, Outcome
from ..files import FileStore
from ..files.intake import check_space
from ..guard import Guard
from ..inputs import Inputs
from ..problems import ApiError
from ..records import Task, iso, now
from ..render import Renderer, log_line
from ..settings import Settings
from ..statuses import Status
from ..store import Store
from ..watch.meter import Meter
from ..webhooks import Webhooks
from .ending import Endings
from .listener import LoopListener
from .live import LiveTask
from .request import RunRequest
from .sessions import Sessions
from .starting import Starter, is_file
from .taking import Taker

log = logging.getLogger("wan_local")
T = TypeVar("T")

MAX_DRAWN_SEED = 2**31 - 1
"""As the rest of the pack draws them: small enough to be typed in again."""
_STOPPED = "The server stopped while the task was running. Run it again."
_COALESCE = 0.1
"""Seconds between two updates of a stream."""
_CANCEL_ANSWER = 0.3
"""Seconds that an answer to cancel waits for the end."""


class TaskManager:
    """All tasks of a service. Every method is called in the server's loop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        executor: Executor,
        catalog: Catalog,
        files: FileStore,
        inputs: Inputs,
        guard: Guard,
        webhooks: Webhooks,
        renderer: Renderer,
        jobs: Path,
        meter: Meter,
    ) -> None:
        self._settings, self._store, self._executor = settings, store, executor
        self._catalog, self._files, self._inputs = catalog, files, inputs
        self._guard, self._webhooks, self._renderer = guard, webhooks, renderer
        self._jobs, self._meter = jobs, meter
        self._live: dict[str, LiveTask] = {}
        self._endings = Endings(store, files, webhooks, renderer, catalog, jobs, meter)
        self._starter = Starter(settings, store, executor, catalog, files, guard, jobs, self._end)
        self._listener: LoopListener | None = None
        self.taker = Taker(settings, store, executor, self._starter, self._live)
        self.sessions = Sessions(store)

    async def start(self) -> None:
        """Take up what an earlier process left, in the order in which it came."""
        self._listener = LoopListener(self._live, self._store, self._end, self._meter)
        await self._executor.start(self._listener)
        before: LiveTask | None = None
        for task in await self._store.open_tasks():
            if await self._starter.adopt(self.taker.add_live(task)):
                continue
            del self._live[task.id]
            if task.cancel_asked:
                await self._endings.end(task, Outcome(Status.CANCELLED))
            elif task.attempts and not (self._settings.requeue and task.attempts < 2):
                await self._endings.end(task, Outcome(Status.FAILED, error=_STOPPED))
            else:
                task.status = Status.RECEIVED
                task.progress, task.stage = 0.0, ""
                live = self.taker.add_live(task)
                is_immediate = self._starter.is_immediate(task)
                self._starter.begin_later(live, before if is_immediate else None)
                before = live if is_immediate else before

    async def close(self) -> None:
        """Stop; open tasks are taken up by the next start."""
        for live in self._live.values():
            if live.work:
                live.work.cancel()
        if self._listener:
            await self._listener.close()
        await self._executor.close()

    def open_tasks(self) -> list[Task]:
        """All that have not ended."""
        return [live.task for live in self._live.values()]

    def position(self, task_id: str) -> int:
        """Place in the queue, from 1; 0 if it does not wait there."""
        order = self._listener.order if self._listener else []
        return order.index(task_id) + 1 if task_id in order else 0

    async def run(
        self,
        request: RunRequest,
        *,
        origin: str,
        key_id: str,
        idempotency: tuple[str, str] | None = None,
    ) -> tuple[Task, list[dict[str, str]]]:
        """Take a request.

        Args:
            origin: scheme and host of the request.
            idempotency: (key, hash of the body).
        Returns:
            The task, and warnings.
        Raises:
            ApiError: whatever is wrong with the request, or with this machine.
        """
        app = self._catalog.find(request.app)
        earlier = await self.earlier(key_id, idempotency)
        if earlier is not None:
            return await self.get(earlier), []
        await self.expect_room(key_id)
        reading = self._inputs.read(app, request.input, origin=origin, key_id=key_id)
        values, warnings = await self.checked(request, reading)
        session = await self.sessions.for_run(
            request.session, app.full_name, request.session_timeout, key_id
        )
        if "seed" in values and (values["seed"] is None or values["seed"] < 0):
            values["seed"] = secrets.randbelow(MAX_DRAWN_SEED + 1)
        task = Task(
            app.full_name,
            app.version_id,
            values,
            webhook=request.webhook,
            session_id=session,
            setup=request.setup,
            metadata=request.metadata,
            run_at=request.run_at,
            key_id=key_id,
            origin=origin,
        )
        await self.taker.take(task, idempotency)
        return self._current(task), [*request.warnings, *warnings]

    async def retry(self, task_id: str, *, origin: str, key_id: str) -> Task:
        """Run an ended task again: same values, same seed. Raises: ApiError."""
        old = await self.get(task_id)
        if not old.status.is_terminal:
            raise ApiError(
                "invalid_transition", f"{old.id} has not ended: it is {old.status.text}."
            )
        app = self._catalog.find(old.app)
        self.taker.expect_room(key_id)
        for name, value in old.input.items():
            if is_file(value):
                file = await self._store.file(value["$file"])
                if file is None:
                    raise ApiError("conflict", f"{name} of {old.id} was deleted. Upload it again.")
        task = replace(
            Task(app.full_name, app.version_id, dict(old.input)),
            webhook=old.webhook,
            setup=old.setup,
            metadata=old.metadata,
            key_id=key_id,
            origin=origin,
        )
        await self.taker.take(task, None)
        return self._current(task)

    async def get(self, task_id: str) -> Task:
        """A task as it is now. Raises: ApiError not_found."""
        live = self._live.get(task_id)
        task = live.task if live else await self._store.task(task_id)
        if task is None:
            raise ApiError("not_found", f"There is no task {task_id[:100]!r}.")
        return task

    async def earlier(self, key_id: str, idempotency: tuple[str, str] | None) -> str | None:
        """The id of what the same request made before, or None.

        Raises:
            ApiError: conflict; its key came with another body.
        """
        found = await self._store.idempotent(key_id, idempotency[0]) if idempotency else None
        if found is None:
            return None
        if found[0] != idempotency[1]:
            raise ApiError("conflict", "This Idempotency-Key was used with another body.")
        return found[1]

    async def expect_room(self, key_id: str, many: int = 1) -> None:
        """Raises:
        ApiError: rate_limited, out_of_space; so many more tasks cannot be taken now.
        """
        self.taker.expect_room(key_id, many)
        await asyncio.to_thread(check_space, self._jobs, 0, self._settings)

    async def checked(self, request: RunRequest, reading: Awaitable[T]) -> T:
        """What `reading` gives; what is wrong with input and webhook is raised together."""
        wrong: list[Any] = []
        try:
            if request.webhook:
                await self._webhooks.check(request.webhook)
        except ApiError as error:
            wrong = error.errors
        try:
            found = await reading
        except ApiError as error:
            if error.code != "validation_error" or not wrong:
                raise
            wrong = [*error.errors, *wrong]
        if wrong:
            detail = "; ".join(error.message.rstrip(".") for error in wrong)
            raise ApiError("validation_error", detail, wrong)
        return found

    async def some(self, task_ids: Sequence[str]) -> dict[str, Task]:
        """Those of the tasks that are there, as they are now, by id."""
        found = {i: self._live[i].task for i in task_ids if i in self._live}
        return found | await self._store.some_tasks(i for i in task_ids if i not in found)

    @contextmanager
    def watch(self, task_ids: Iterable[str]) -> Iterator[asyncio.Event]:
        """An event that each change of one of the tasks sets."""
        watcher = asyncio.Event()
        lives = [self._live[i] for i in task_ids if i in self._live]
        for live in lives:
            live.watchers.add(watcher)
        try:
            yield watcher
        finally:
            for live in lives:
                live.watchers.discard(watcher)

    async def cancel(self, task_id: str) -> Task:
        """Ask a task to stop. One that completes all the same stays completed.

        Raises:
            ApiError: not_found, invalid_transition.
        """
        task, live = await self.get(task_id), self._live.get(task_id)
        if task.status.is_terminal or live is None:
            raise ApiError(
                "invalid_transition", f"{task.id} cannot be cancelled: it is {task.status.text}."
            )
        task.cancel_asked = True
        await self._store.save_task(task)
        if live.is_submitted:
            await self._executor.cancel(task_id)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(live.ended.wait(), _CANCEL_ANSWER)
        elif live.work:
            live.work.cancel()
            with suppress(asyncio.CancelledError):
                await live.work
            if live.is_submitted:
                await self._executor.cancel(task_id)
            elif not live.ended.is_set():
                await self._end(live, Outcome(Status.CANCELLED))
        if not task.status.is_terminal and task.status < Status.CANCELLING:
            self._listener.status(task_id, Status.CANCELLING)
            await asyncio.sleep(0)
        return task

    async def delete(self, task_id: str, with_files: bool) -> None:
        """Forget an ended task. Raises: ApiError not_found, invalid_transition."""
        task = await self.get(task_id)
        if not task.status.is_terminal:
            raise ApiError(
                "invalid_transition", f"{task.id} is {task.status.text}. Cancel it first."
            )
        if with_files:
            await self.delete_files(task_id, None)
        await self._store.delete_task(task_id)

    async def delete_files(self, task_id: str, role: str | None) -> dict[str, Any]:
        """Delete files of an ended task, but none that other tasks use.

        Raises:
            ApiError: not_found, invalid_transition.
        """
        task = await self.get(task_id)
        if not task.status.is_terminal:
            raise ApiError("invalid_transition", f"{task.id} is {task.status.text}.")
        deleted, skipped = [], []
        for _, file in await self._store.files_of(task_id, role):
            others = [t.id for t in await self._store.tasks_of(file.id) if t.id != task_id]
            if others:
                skipped.append({"id": file.id, "reason": f"used by {others[0]} too"})
                continue
            await self._files.delete(file)
            deleted.append(file.id)
        return {"deleted": deleted, "skipped": skipped}

    def preview(self, task_id: str) -> bytes:
        """The last preview of a running task, JPEG. Raises: ApiError not_found."""
        live = self._live.get(task_id)
        if live is None or not live.preview:
            raise ApiError("not_found", "There is no preview (any more).")
        return live.preview

    async def follow(self, task_id: str, origin: str) -> AsyncIterator[dict[str, Any]]:
        """States of a task as answers carry them: the present one, each change, the last one.

        What has not changed for `settings.event_seconds` is said again. Raises: ApiError.
        """
        task, live = await self.get(task_id), self._live.get(task_id)
        if live is None:
            yield await self._renderer.task(await self.get(task_id), origin)
            return
        with self.watch([task_id]) as watcher:
            while not live.ended.is_set():
                watcher.clear()
                task.eta_seconds = self._listener.estimate(live)
                state = await self._state(live, origin)
                if state["status"] >= Status.COMPLETED:
                    break
                yield state
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(watcher.wait(), self._settings.event_seconds)
                if not live.ended.is_set():
                    await asyncio.sleep(_COALESCE)
            yield await self._renderer.task(task, origin)

    async def clean_up(self) -> None:
        """Delete what is older than the settings want, and what was never uploaded."""
        before = now() - timedelta(days=self._settings.keep_days)
        for task in await self._store.ended_before(before):
            await self.delete(task.id, with_files=True)
        for file in await self._store.never_uploaded(int(now().timestamp())):
            await self._files.delete(file)

    async def _state(self, live: LiveTask, origin: str) -> dict[str, Any]:
        state = await self._renderer.task(live.task, origin)
        state["logs"] = (state["logs"] + [log_line(line) for line in live.logs])[-20:]
        if not live.task.status.is_terminal:
            state["updated_at"] = iso(now())
        return state

    def _current(self, task: Task) -> Task:
        live = self._live.get(task.id)
        return live.task if live else task

    async def _end(self, live: LiveTask, outcome: Outcome) -> None:
        if live.ended.is_set():
            return
        if self._listener:
            await self._listener.save_logs(live)
        await self._endings.end(live.task, outcome, live.elapsed)
        await self._executor.forget(live.task.id)
        self._live.pop(live.task.id, None)
        live.ended.set()
        live.changed()
