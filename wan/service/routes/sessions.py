"""Sessions: records of who runs several tasks in a row."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..render import session
from ..tasks.sessions import Sessions
from .base import Door, Reply


def session_routes(door: Door, sessions: Sessions) -> list[web.RouteDef]:
    """Routes of sessions."""

    async def list_sessions(request: web.Request) -> list[dict[str, Any]]:
        """List sessions."""
        return [session(found) for found in await sessions.all()]

    async def get(request: web.Request) -> dict[str, Any]:
        """A session."""
        return session(await sessions.get(_id(request)))

    async def keep_alive(request: web.Request) -> dict[str, Any]:
        """Keep a session."""
        return session(await sessions.keep_alive(_id(request)))

    async def end(request: web.Request) -> Reply:
        """End a session."""
        await sessions.end(_id(request))
        return Reply(status=204)

    return [
        door.route("GET", "/sessions", list_sessions),
        door.route("GET", "/sessions/{session_id}", get),
        door.route("POST", "/sessions/{session_id}/keepalive", keep_alive),
        door.route("DELETE", "/sessions/{session_id}", end),
    ]


def _id(request: web.Request) -> str:
    return request.match_info["session_id"]
