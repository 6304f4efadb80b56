"""Tasks: look, follow, cancel, run again, list, delete."""

from __future__ import annotations

from collections import Counter
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


def task_routes(
    door: Door, store: Store, tasks: TaskManager, renderer: Renderer
) -> list[web.RouteDef]:
    """Routes of tasks."""
    streams: Counter[str] = Counter()

    async def get(request: web.Request) -> dict[str, Any]:
        """A task."""
        return await renderer.task(await tasks.get(_id(request)), origin_of(request))

    async def status(request: web.Request) -> dict[str, Any]:
        """A task's status."""
        task = await tasks.get(_id(request))
        return {
            "id": task.id,
            "status": int(task.status),
            "status_text": task.status.text,
            "updated_at": iso(task.updated_at),
        }

    async def stream(request: web.Request) -> web.StreamResponse:
        """Follow a task until it ends."""
        key_id, most = request[KEY_ID], door.settings.max_streams
        if streams[key_id] >= most:
            raise ApiError(
                "rate_limited",
                f"{most} streams are open, the most for one key. Close some.",
                headers={"Retry-After": "10"},
            )
        streams[key_id] += 1
        try:
            return await send_stream(request, tasks.follow(_id(request), origin_of(request)))
        finally:
            streams[key_id] -= 1

    async def logs(request: web.Request) -> dict[str, Any]:
        """What a task said."""
        task = await tasks.get(_id(request))
        return {
            "task_id": task.id,
            "status": int(task.status),
            "events": [event(e) for e in await store.events(task.id)],
            "logs": [log_line(line) for line in await store.logs(task.id)],
        }

    async def timings(request: web.Request) -> dict[str, Any]:
        """How long its stages took."""
        task = await tasks.get(_id(request))
        return _timings(task.id, task.status, await store.events(task.id))

    async def cancel(request: web.Request) -> dict[str, Any]:
        """Cancel a task."""
        task = await tasks.cancel(_id(request))
        return renderer.result(task, await renderer.output(task, origin_of(request)))

    async def retry(request: web.Request) -> dict[str, Any]:
        """Run it again."""
        origin = origin_of(request)
        task = await tasks.retry(_id(request), origin=origin, key_id=request[KEY_ID])
        return renderer.result(task)

    async def delete(request: web.Request) -> Reply:
        """Delete a task."""
        with_files = request.query.get("files", "").lower() in ("true", "1")
        await tasks.delete(_id(request), with_files)
        return Reply(status=204)

    async def files(request: web.Request) -> list[dict[str, Any]]:
        """Files of a task."""
        task = await tasks.get(_id(request))
        found = await store.files_of(task.id, _role(request))
        return [renderer.file(file, origin_of(request), role) for role, file in found]

    async def delete_files(request: web.Request) -> dict[str, Any]:
        """Delete files of a task."""
        return await tasks.delete_files(_id(request), _role(request))

    async def list_tasks(request: web.Request) -> dict[str, Any]:
        """List tasks."""
        page = await store.tasks(list_query(await door.body(request)))
        now = [await tasks.get(task.id) for task in page.items]
        rendered = await renderer.tasks(now, origin_of(request))
        return {**page.as_json(lambda _: None), "items": rendered}

    async def preview(request: web.Request) -> web.Response:
        """The last preview picture."""
        picture = tasks.preview(_id(request))
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=picture, content_type="image/jpeg", headers=headers)

    return [
        door.route("POST", "/tasks/list", list_tasks),
        door.route("GET", "/tasks/{task_id}", get),
        door.route("DELETE", "/tasks/{task_id}", delete),
        door.route("GET", "/tasks/{task_id}/status", status),
        door.route("GET", "/tasks/{task_id}/stream", stream),
        door.route("GET", "/tasks/{task_id}/logs", logs),
        door.route("GET", "/tasks/{task_id}/timings", timings),
        door.route("POST", "/tasks/{task_id}/cancel", cancel),
        door.route("POST", "/tasks/{task_id}/retry", retry),
        door.route("GET", "/tasks/{task_id}/files", files),
        door.route("DELETE", "/tasks/{task_id}/files", delete_files),
        # The id cannot be guessed, and a page's pictures bring no key along.
        door.route("GET", "/tasks/{task_id}/preview/{name}", preview, is_open=True),
    ]


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
