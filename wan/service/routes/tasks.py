"""Tasks: look, follow, cancel, run again, list, delete."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..problems import ApiError
from ..records import Event, iso
from ..render import Renderer, event, log_line
from ..statuses import Status
from ..store import Store
from ..stream import send_stream
from ..tasks import TaskManager
from .base import KEY_ID, Door, Reply, list_query, origin_of

_ROLES = ("input", "output")


class TaskRoutes:
    """Handlers of tasks."""

    def __init__(self, door: Door, store: Store, tasks: TaskManager, renderer: Renderer) -> None:
        self._door, self._store, self._tasks, self._renderer = door, store, tasks, renderer

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        route = self._door.route
        return [
            route("POST", "/tasks/list", self.list_tasks),
            route("GET", "/tasks/{task_id}", self.get),
            route("DELETE", "/tasks/{task_id}", self.delete),
            route("GET", "/tasks/{task_id}/status", self.status),
            route("GET", "/tasks/{task_id}/stream", self.stream),
            route("GET", "/tasks/{task_id}/logs", self.logs),
            route("GET", "/tasks/{task_id}/timings", self.timings),
            route("POST", "/tasks/{task_id}/cancel", self.cancel),
            route("POST", "/tasks/{task_id}/retry", self.retry),
            route("GET", "/tasks/{task_id}/files", self.files),
            route("DELETE", "/tasks/{task_id}/files", self.delete_files),
            # The id cannot be guessed, and a page's pictures bring no key along.
            route("GET", "/tasks/{task_id}/preview/{name}", self.preview, is_open=True),
        ]

    async def get(self, request: web.Request) -> dict[str, Any]:
        """A task."""
        return await self._renderer.task(await self._tasks.get(_id(request)), origin_of(request))

    async def status(self, request: web.Request) -> dict[str, Any]:
        """A task's status."""
        task = await self._tasks.get(_id(request))
        return {
            "id": task.id,
            "status": int(task.status),
            "status_text": task.status.text,
            "updated_at": iso(task.updated_at),
        }

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Follow a task until it ends."""
        with self._door.open_stream(request):
            return await send_stream(request, self._tasks.follow(_id(request), origin_of(request)))

    async def logs(self, request: web.Request) -> dict[str, Any]:
        """What a task said."""
        task = await self._tasks.get(_id(request))
        return {
            "task_id": task.id,
            "status": int(task.status),
            "events": [event(e) for e in await self._store.events(task.id)],
            "logs": [log_line(line) for line in await self._store.logs(task.id)],
        }

    async def timings(self, request: web.Request) -> dict[str, Any]:
        """How long its stages took."""
        task = await self._tasks.get(_id(request))
        return _timings(task.id, task.status, await self._store.events(task.id))

    async def cancel(self, request: web.Request) -> dict[str, Any]:
        """Cancel a task."""
        task = await self._tasks.cancel(_id(request))
        return self._renderer.result(task, await self._renderer.output(task, origin_of(request)))

    async def retry(self, request: web.Request) -> dict[str, Any]:
        """Run it again."""
        origin = origin_of(request)
        task = await self._tasks.retry(_id(request), origin=origin, key_id=request[KEY_ID])
        return self._renderer.result(task)

    async def delete(self, request: web.Request) -> Reply:
        """Delete a task."""
        with_files = request.query.get("files", "").lower() in ("true", "1")
        await self._tasks.delete(_id(request), with_files)
        return Reply(status=204)

    async def files(self, request: web.Request) -> list[dict[str, Any]]:
        """Files of a task."""
        task = await self._tasks.get(_id(request))
        found = await self._store.files_of(task.id, _role(request))
        return [self._renderer.file(file, origin_of(request), role) for role, file in found]

    async def delete_files(self, request: web.Request) -> dict[str, Any]:
        """Delete files of a task."""
        return await self._tasks.delete_files(_id(request), _role(request))

    async def list_tasks(self, request: web.Request) -> dict[str, Any]:
        """List self._tasks."""
        page = await self._store.tasks(list_query(await self._door.body(request)))
        # What has ended stays as it is; the others may have gone on since they were saved.
        now = [t if t.status.is_terminal else await self._tasks.get(t.id) for t in page.items]
        rendered = await self._renderer.tasks(now, origin_of(request))
        return {**page.as_json(lambda _: None), "items": rendered}

    async def preview(self, request: web.Request) -> web.Response:
        """The last preview picture."""
        picture = self._tasks.preview(_id(request))
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=picture, content_type="image/jpeg", headers=headers)


def _id(request: web.Request) -> str:
    return request.match_info["task_id"]


def _role(request: web.Request) -> str | None:
    role = request.query.get("role") or None
    if role is not None and role not in _ROLES:
        raise ApiError("invalid_request", f"role is {role[:100]!r}. Use input or output.")
    return role


def _timings(task_id: str, status: Status, events: list[Event]) -> dict[str, Any]:
    """How long each status lasted, until the one after it."""
    steps, groups = [], []
    for this, after in zip(events, [*events[1:], None], strict=True):
        end = after.created_at if after else this.created_at
        milliseconds = round((end - this.created_at).total_seconds() * 1000)
        steps.append(
            {
                "status": this.status.text,
                "timestamp": iso(this.created_at),
                "duration_ms": milliseconds,
                "next_status": after.status.text if after else "",
            }
        )
        if after:
            groups.append(
                {
                    "label": this.status.text,
                    "start_at": iso(this.created_at),
                    "end_at": iso(end),
                    "duration": _duration(milliseconds),
                    "duration_ms": milliseconds,
                }
            )
    total = sum(step["duration_ms"] for step in steps)
    return {
        "task_id": task_id,
        "status": int(status),
        "total_duration": _duration(total),
        "total_duration_ms": total,
        "groups": groups,
        "events": steps,
    }


def _duration(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}s"
