"""Fetched files: one download for all tasks that want the same at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..catalog import CatalogApp
from ..fetch import fetch
from ..files import FileStore
from ..guard import Guard
from ..inputs import expect_kind
from ..problems import ApiError
from ..records import File
from ..settings import Settings


@dataclass
class _Running:
    work: asyncio.Task[File]
    waiters: int = 0


class Fetches:
    """Brings files from other servers. All methods are called in the server's loop."""

    def __init__(self, files: FileStore, guard: Guard, settings: Settings) -> None:
        self._files, self._guard, self._settings = files, guard, settings
        self._running: dict[tuple[str, ...], _Running] = {}

    async def get(self, app: CatalogApp, name: str, url: str, key_id: str) -> File:
        """The file at an address, checked to be what a parameter wants.

        A fetch is shared by all who ask for it while it runs, and stops when the last one is
        cancelled.

        Raises:
            ApiError: it cannot be fetched, or is of the wrong kind.
        """
        key = (key_id, app.full_name, name, url)
        if key not in self._running:
            work = asyncio.create_task(self._fetch(app, name, url, key_id))
            self._running[key] = _Running(work)
        running = self._running[key]
        running.waiters += 1
        try:
            return await asyncio.shield(running.work)
        finally:
            running.waiters -= 1
            if (running.work.done() or not running.waiters) and self._running.get(key) is running:
                del self._running[key]
            if not running.waiters and not running.work.done():
                running.work.cancel()
                await asyncio.wait([running.work])

    async def _fetch(self, app: CatalogApp, name: str, url: str, key_id: str) -> File:
        file = await fetch(url, self._files, self._guard, self._settings, key_id)
        try:
            expect_kind(app, name, file)
        except ApiError:
            await self._files.delete(file)
            raise
        return file
