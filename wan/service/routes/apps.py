"""Apps: run, list, look up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from ..catalog import Catalog
from ..problems import ApiError
from ..render import Renderer
from ..tasks import RunRequest, TaskManager
from .base import KEY_ID, Door, Reply, idempotency, list_query, origin_of


def app_routes(
    door: Door, catalog: Catalog, tasks: TaskManager, renderer: Renderer
) -> list[web.RouteDef]:
    """Routes of apps."""

    async def run(request: web.Request) -> Reply:
        """Run an app."""
        body = await door.body(request)
        wanted = RunRequest.read(body)
        task, messages = await tasks.run(
            wanted,
            origin=origin_of(request),
            key_id=request[KEY_ID],
            idempotency=idempotency(request, body),
        )
        return Reply(renderer.result(task), messages=messages)

    async def all_apps(request: web.Request) -> dict[str, Any]:
        """List the apps."""
        query = list_query(await door.body(request))
        apps = [app.as_json() for app in await asyncio.to_thread(catalog.apps)]
        found = [app for app in apps if query.search.lower() in json.dumps(app).lower()]
        return {
            "items": found[: query.limit],
            "next_cursor": "",
            "prev_cursor": "",
            "has_next": False,
            "has_previous": False,
            "items_per_page": query.limit,
        }

    async def by_name(request: web.Request) -> dict[str, Any]:
        """An app by its name."""
        info = request.match_info
        name = f"{info['namespace']}/{info['name']}"
        return (await asyncio.to_thread(catalog.find, name)).as_json()

    async def by_id(request: web.Request) -> dict[str, Any]:
        """An app by its id."""
        found = await asyncio.to_thread(catalog.by_id, request.match_info["app_id"])
        return found.as_json()

    async def version(request: web.Request) -> dict[str, Any]:
        """A version of an app."""
        app = await asyncio.to_thread(catalog.by_id, request.match_info["app_id"])
        wanted = request.match_info["version_id"]
        if wanted not in ("latest", app.version_id):
            raise ApiError(
                "not_found",
                f"{app.full_name} has no version {wanted[:100]!r} here; it has {app.version_id}.",
            )
        return app.as_json()["version"]

    return [
        door.route("POST", "/apps/run", run),
        door.route("POST", "/apps/list", all_apps),
        door.route("GET", "/apps/{app_id}", by_id),
        door.route("GET", "/apps/{namespace}/{name}", by_name),
        door.route("GET", "/apps/{app_id}/versions/{version_id}", version),
    ]
