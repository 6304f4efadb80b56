"""Grids: run, look, follow, cancel, list, delete, and the sheet of the results."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..grids import GridRequest, Grids
from ..problems import ApiError
from ..render import Renderer
from ..store.listing import ListQuery
from ..stream import send_stream
from .base import KEY_ID, Door, Reply, idempotency, origin_of

_LIMIT = 20


class GridRoutes:
    """Handlers of grids."""

    def __init__(self, door: Door, grids: Grids, renderer: Renderer) -> None:
        self._door, self._grids, self._renderer = door, grids, renderer

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        route = self._door.route
        return [
            route("POST", "/grids", self.run),
            route("GET", "/grids", self.list_grids),
            route("GET", "/grids/{grid_id}", self.get),
            route("DELETE", "/grids/{grid_id}", self.delete),
            route("GET", "/grids/{grid_id}/stream", self.stream),
            route("POST", "/grids/{grid_id}/cancel", self.cancel),
            route("GET", "/grids/{grid_id}/sheet", self.sheet),
        ]

    async def run(self, request: web.Request) -> Reply:
        """Run an app with all combinations of some values."""
        body = await self._door.body(request)
        grid, messages = await self._grids.run(
            GridRequest.read(body, self._grids.most),
            origin=origin_of(request),
            key_id=request[KEY_ID],
            idempotency=idempotency(request, body, "/grids"),
        )
        return Reply(await self._grids.state(grid, origin_of(request)), messages=messages)

    async def list_grids(self, request: web.Request) -> dict[str, Any]:
        """List grids, newest first."""
        limit = request.query.get("limit") or str(_LIMIT)
        if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(_LIMIT)) + 1):
            raise ApiError("invalid_request", f"limit is {limit[:100]!r}. Use a whole number.")
        query = ListQuery(request.query.get("cursor", ""), int(limit))
        return await self._grids.page(query, origin_of(request))

    async def get(self, request: web.Request) -> dict[str, Any]:
        """A grid with its items."""
        return await self._grids.state(await self._grids.get(_id(request)), origin_of(request))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Follow a grid until all of its tasks have ended."""
        with self._door.open_stream(request):
            return await send_stream(request, self._grids.follow(_id(request), origin_of(request)))

    async def cancel(self, request: web.Request) -> dict[str, Any]:
        """Cancel the tasks of a grid that have not ended."""
        grid = await self._grids.cancel(_id(request))
        return await self._grids.state(grid, origin_of(request))

    async def delete(self, request: web.Request) -> Reply:
        """Delete a grid and its tasks."""
        with_files = request.query.get("files", "").lower() in ("true", "1")
        await self._grids.delete(_id(request), with_files)
        return Reply(status=204)

    async def sheet(self, request: web.Request) -> dict[str, Any]:
        """The results of a grid in one video, as a file."""
        return self._renderer.file(await self._grids.sheet(_id(request)), origin_of(request))


def _id(request: web.Request) -> str:
    return request.match_info["grid_id"]
