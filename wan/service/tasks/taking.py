"""New tasks: room for them, kept on the disk, and begun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from ..executor import Executor
from ..problems import ApiError
from ..records import Event, Task
from ..settings import Settings
from ..statuses import Status
from ..store import Store
from .live import LiveTask
from .starting import Starter, is_file

_UNDO_SECONDS = 2.0
"""How long a refused grid waits for its tasks that are stopped again."""


class Taker:
    """Takes tasks.

    Args:
        live: tasks under way, by id; new ones are added.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        executor: Executor,
        starter: Starter,
        live: dict[str, LiveTask],
    ) -> None:
        self._settings, self._store, self._executor = settings, store, executor
        self._starter, self._live = starter, live

    def expect_room(self, key_id: str, many: int = 1) -> None:
        """Raises:
        ApiError: rate_limited; so many more may not wait for this key.
        """
        waiting = sum(
            live.task.key_id == key_id and live.task.status <= Status.QUEUED
            for live in self._live.values()
        )
        most = self._settings.max_queue
        if waiting + many > most:
            wanted = "" if many == 1 else f", and {many} more are asked for"
            raise ApiError(
                "rate_limited",
                f"{waiting} tasks wait already{wanted}; the most for one key is {most}. Try again "
                "later.",
                headers={"Retry-After": "30"},
            )

    def add_live(self, task: Task) -> LiveTask:
        """Follow a task from here on."""
        live = self._live[task.id] = LiveTask(task)
        return live

    async def take(self, task: Task, idempotency: tuple[str, str] | None) -> None:
        """Keep a new task and begin it; a refusal of the executor is one of the request."""
        links = [(v["$file"], "input") for v in task.input.values() if is_file(v)]
        full_key = (task.key_id, *idempotency) if idempotency else None
        received = Event(task.id, Status.RECEIVED)

        async def keep() -> str:
            return await self._store.add_task(task, [received], full_key, links)

        kept = await self.take_all([task], keep, task.id)
        if kept != task.id:  # the same request came twice at once
            task.id = kept

    async def take_all(
        self, tasks: Sequence[Task], keep: Callable[[], Awaitable[str]], wanted: str
    ) -> str:
        """Keep new tasks and begin them in their order: all, or none if one is refused.

        Args:
            keep: saves them, and gives an id.
            wanted: that id, unless the request was taken before; nothing is begun then.
        Returns:
            What `keep` gave.
        Raises:
            ApiError: what the executor refuses.
        """
        lives = [self.add_live(task) for task in tasks]
        kept = ""
        try:
            kept = await keep()
        finally:
            if kept != wanted:
                for task in tasks:
                    del self._live[task.id]
        if kept != wanted:
            return kept
        try:
            for live in lives:
                if self._starter.is_immediate(live.task):
                    await self._starter.submit(live)
                else:
                    self._starter.begin_later(live)
        except Exception:
            await self._undo(lives)
            raise
        return kept

    async def _undo(self, lives: Sequence[LiveTask]) -> None:
        for live in lives:
            if live.work:
                live.work.cancel()
                with suppress(asyncio.CancelledError):
                    await live.work
            if live.is_submitted:
                live.task.cancel_asked = True
                await self._executor.cancel(live.task.id)
        for live in lives:
            if live.is_submitted:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(live.ended.wait(), _UNDO_SECONDS)
            else:
                self._live.pop(live.task.id, None)
                live.ended.set()
            if live.ended.is_set():
                await self._store.delete_task(live.task.id)
