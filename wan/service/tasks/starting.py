"""The way of a task into the executor's hands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ..catalog import Catalog, CatalogApp
from ..executor import Executor, Job, Outcome
from ..files import FileStore
from ..guard import Guard
from ..problems import ApiError
from ..records import Event, Task, iso, now
from ..settings import Settings
from ..statuses import Status
from ..store import Store
from .fetching import Fetches
from .live import LiveTask

log = logging.getLogger("wan_local")


class Starter:
    """Brings tasks to the executor: at once, or after waiting and fetching.

    Args:
        jobs: folder of the jobs' own folders.
        end: called for a task that fails on the way.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        executor: Executor,
        catalog: Catalog,
        files: FileStore,
        guard: Guard,
        jobs: Path,
        end: Callable[[LiveTask, Outcome], Awaitable[None]],
    ) -> None:
        self._store, self._executor = store, executor
        self._catalog, self._files = catalog, files
        self._fetches = Fetches(files, guard, settings)
        self._jobs, self._end = jobs, end

    def is_immediate(self, task: Task) -> bool:
        """Whether nothing has to be waited for."""
        return not task.run_at and not any(map(is_address, task.input.values()))

    def begin_later(self, live: LiveTask, before: LiveTask | None = None) -> None:
        """Begin in the background; what goes wrong fails the task.

        Args:
            before: a task that comes to the executor first.
        """
        live.work = asyncio.create_task(self._begin(live, before))

    async def _begin(self, live: LiveTask, before: LiveTask | None) -> None:
        """Wait for its time, fetch its files, submit it; what goes wrong fails it."""
        task = live.task
        try:
            if before is not None and before.work is not None:
                await asyncio.wait([before.work])
            if task.run_at and task.run_at > now():
                task.stage = f"waits until {iso(task.run_at)}"
                while (wait := (task.run_at - now()).total_seconds()) > 0:
                    await asyncio.sleep(min(wait, 3600.0))
            app = self._catalog.find(task.app)
            for name, value in task.input.items():
                if is_address(value):
                    task.stage = f"fetches {name}"
                    live.changed()
                    await self._fetch(app, task, name, value["$url"])
            task.stage = ""
            await self.submit(live)
        except ApiError as error:
            await self._end(live, Outcome(Status.FAILED, error=error.detail))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("A task could not be begun")
            text = f"The task could not be begun ({type(error).__name__})."
            await self._end(live, Outcome(Status.FAILED, error=text))

    async def _fetch(self, app: CatalogApp, task: Task, name: str, url: str) -> None:
        file = await self._fetches.get(app, name, url, task.key_id)
        task.input[name] = {"$file": file.id}
        await self._store.save_task(task, links=[(file.id, "input")])

    async def submit(self, live: LiveTask) -> None:
        """Queue it. Raises: ApiError, what the executor refuses."""
        task = live.task
        job = await self._job(task)
        task.status = Status.QUEUED
        await self._store.save_task(task, event=Event(task.id, Status.QUEUED))
        live.is_submitted = True
        try:
            await self._executor.submit(job)
        except BaseException:
            live.is_submitted = False
            raise
        await asyncio.sleep(0)  # what the executor told meanwhile is heard
        live.changed()

    async def adopt(self, live: LiveTask) -> bool:
        """Whether the executor still has a task that an earlier server submitted; if so, it is
        followed from here on, and a cancel that was asked for is asked again."""
        task = live.task
        if task.status < Status.QUEUED:
            return False
        try:
            live.is_submitted = await self._executor.adopt(await self._job(task))
        except ApiError:  # one of its files is gone
            return False
        if live.is_submitted and task.cancel_asked:
            await self._executor.cancel(task.id)
        return live.is_submitted

    async def _job(self, task: Task) -> Job:
        """What the executor is given. Raises: ApiError, a file of it is gone."""
        values = dict(task.input)
        for name, value in values.items():
            if is_file(value):
                file = await self._store.file(value["$file"])
                if file is None:
                    raise ApiError("not_found", f"{name} was deleted before the task began.")
                values[name] = self._files.path(file)
        folder = self._jobs / task.id
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        priority = (task.metadata or {}).get("priority", 0)
        return Job(task.id, task.app, values, folder, task.key_id, priority)


def is_file(value: Any) -> bool:
    """Whether a value is a file of ours."""
    return isinstance(value, dict) and "$file" in value


def is_address(value: Any) -> bool:
    """Whether a value is an address that must be fetched."""
    return isinstance(value, dict) and "$url" in value
