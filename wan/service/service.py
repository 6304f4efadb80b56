"""The service as a whole: its parts wired together, its routes, its start and end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from aiohttp import web

from ..version import version
from .catalog import Catalog
from .executor import Executor
from .files import FileStore
from .grids import Grids
from .grids.sheet import Sheets
from .guard import Guard
from .inputs import Inputs
from .keys import Keys
from .links import Links
from .openapi import document
from .page import page_routes
from .problems import ApiError
from .render import Renderer
from .routes import (
    Door,
    GridRoutes,
    TaskRoutes,
    app_routes,
    file_routes,
    session_routes,
    watch_routes,
)
from .settings import Settings
from .store import GridStore, Store
from .store.database import Database
from .tasks import TaskManager
from .watch.cluster import Cluster
from .watch.meter import Meter
from .watch.metrics import Metrics
from .webhooks import Webhooks

log = logging.getLogger("wan_local")

_CLEAN_SECONDS = 3600.0


class Service:
    """The API over an executor.

    Routes can be registered at once; they answer after `start`.

    Args:
        settings: limits and places.
        executor: runs the jobs.
        catalog: the apps.
        keys: who may use it.
    """

    def __init__(
        self, settings: Settings, executor: Executor, catalog: Catalog, keys: Keys
    ) -> None:
        settings.data.mkdir(parents=True, exist_ok=True)
        self._settings = settings
        self._database = Database(settings.data / "service.db")
        self.store = Store(self._database)
        links = Links(settings, keys.link_secret)
        guard = Guard(settings)
        self.files = FileStore(settings.data / "files", self.store, settings)
        inputs = Inputs(self.files, self.store, links, guard)
        self.meter = Meter()
        self._webhooks = Webhooks(
            self.store, guard, settings, keys.webhook_secret, heard=self.meter.delivery
        )
        renderer = Renderer(
            self.store, links, settings, lambda task_id: self.tasks.position(task_id)
        )
        jobs = (settings.data / "jobs").resolve()
        jobs.mkdir(exist_ok=True)
        self.tasks = TaskManager(
            settings,
            self.store,
            executor,
            catalog,
            self.files,
            inputs,
            guard,
            self._webhooks,
            renderer,
            jobs,
            self.meter,
        )
        grid_store = GridStore(self._database)
        sheets = Sheets(grid_store, self.store, self.files, jobs)
        self.grids = Grids(settings, grid_store, self.tasks, catalog, inputs, renderer, sheets)
        self._cluster = Cluster(executor, self.tasks, self.meter)
        self._metrics = Metrics(
            settings, self.store, self.tasks, self._cluster, self.meter, version()
        )
        self._door = Door(settings, keys)
        self._parts = (catalog, links, renderer)
        self._cleaner: asyncio.Task[None] | None = None

    def routes(self) -> list[web.RouteDef]:
        """All routes, below `settings.prefix`."""
        catalog, links, renderer = self._parts
        door, prefix = self._door, self._settings.prefix

        async def openapi(request: web.Request) -> web.Response:
            """The OpenAPI document."""
            return web.json_response(document(prefix))

        async def unknown(request: web.Request) -> None:
            """Whatever else is asked for."""
            raise ApiError("not_found", f"There is no route {request.method} {request.path[:200]}.")

        return [
            *app_routes(door, catalog, self.tasks, renderer),
            *TaskRoutes(door, self.store, self.tasks, renderer).routes(),
            *GridRoutes(door, self.grids, renderer).routes(),
            *file_routes(door, self.store, self.files, links, renderer),
            *watch_routes(door, self._cluster, self._metrics),
            *session_routes(door, self.tasks.sessions),
            door.route("GET", "/openapi.json", openapi, is_open=True),
            *page_routes(prefix),
            door.route("*", "/{rest:.*}", unknown),
        ]

    async def start(self) -> None:
        """Open the store and take up what an earlier process left."""
        await self._database.open()
        await self.files.sweep()
        await self._webhooks.start()
        await self.tasks.start()
        self._cleaner = asyncio.create_task(self._clean())

    async def close(self) -> None:
        """Stop everything; what is open is taken up by the next start."""
        if self._cleaner:
            self._cleaner.cancel()
            with suppress(asyncio.CancelledError):
                await self._cleaner
        self.grids.close()
        await self.tasks.close()
        await self._webhooks.close()
        await self._database.close()

    async def _clean(self) -> None:
        while True:
            try:
                await self.tasks.clean_up()
                await self.grids.clean_up()
            except Exception:
                log.exception("Old tasks could not be deleted")
            await asyncio.sleep(_CLEAN_SECONDS)
