"""The OpenAPI 3.1 document of all routes, for readers, generators and the property-based tests."""

from __future__ import annotations

from .openapi_grids import GRID_SCHEMAS, grid_paths, watch_paths
from .openapi_parts import (
    ANY,
    FLAG,
    STATUS,
    TEXT,
    TIME,
    WHOLE,
    Json,
    array,
    nullable,
    operation,
    page,
    record,
    ref,
)

_RESULT: dict[str, Json] = {
    "id": TEXT,
    "short_id": TEXT,
    "status": STATUS,
    "status_text": TEXT,
    "output": nullable({"type": "object"}),
    "error": TEXT,
    "session_id": nullable(TEXT),
    "created_at": TIME,
    "updated_at": TIME,
    "progress": {"type": "number", "minimum": 0, "maximum": 100},
    "queue_position": WHOLE,
}
_SCHEMAS: dict[str, Json] = {
    "TaskResult": record(_RESULT),
    "Task": record(
        {
            **_RESULT,
            "app": TEXT,
            "function": TEXT,
            "input": {"type": "object"},
            "attempts": WHOLE,
            "stage": TEXT,
            "eta_seconds": nullable({"type": "number"}),
            "preview": nullable(TEXT),
            "webhook": nullable(TEXT),
            "app_version_id": TEXT,
        },
        # A list leaves them out.
        {"logs": array(ref("Log")), "events": array(ref("Event"))},
    ),
    "Log": record({"id": TEXT, "task_id": TEXT, "log_type": WHOLE, "content": TEXT}),
    "Event": record({"id": TEXT, "task_id": TEXT, "status": STATUS, "created_at": TIME}),
    "File": record(
        {
            "id": TEXT,
            "uri": TEXT,
            "path": TEXT,
            "content_type": TEXT,
            "size": nullable(WHOLE),
            "filename": nullable(TEXT),
            "created_at": TIME,
            "updated_at": TIME,
        },
        {"upload_url": TEXT},
    ),
    "App": record({"id": TEXT, "namespace": TEXT, "name": TEXT, "status": TEXT}),
    "Session": record({"id": TEXT, "status": TEXT, "call_count": WHOLE}),
    "Problem": record(
        {"type": TEXT, "title": TEXT, "status": WHOLE, "detail": TEXT, "code": TEXT},
        {"errors": array({"type": "object"})},
    ),
    "RunRequest": record(
        {"app": TEXT, "input": {"type": "object"}},
        {
            "webhook": nullable(TEXT),
            "session": nullable(TEXT),
            "session_timeout": nullable({"type": "integer", "minimum": 1, "maximum": 3600}),
            "function": nullable(TEXT),
            "run_at": nullable(TIME),
            "setup": nullable({"type": "object"}),
            "metadata": nullable(
                {
                    "type": "object",
                    "properties": {
                        "priority": {"type": "integer", "minimum": -10, "maximum": 10, "default": 0}
                    },
                }
            ),
        },
    ),
    "FileRequest": record(
        {
            "files": array(
                record(
                    {},
                    {
                        "filename": nullable(TEXT),
                        "content_type": nullable(TEXT),
                        "size": nullable(WHOLE),
                        "uri": nullable(TEXT),
                        "path": nullable(TEXT),
                    },
                )
            )
        }
    ),
    "ListRequest": record(
        {},
        {
            "cursor": nullable(TEXT),
            "limit": nullable({"type": "integer", "minimum": 1, "maximum": 200}),
            "filters": nullable(array(record({"field": TEXT, "operator": TEXT}, {"value": ANY}))),
            "sort": nullable(array(record({"field": TEXT}, {"dir": TEXT}))),
            "search": nullable(TEXT),
        },
    ),
}


_TASK = "/tasks/{task_id}"
_SESSION = "/sessions/{session_id}"
_ROLE = {"role": {"enum": ["input", "output"]}}
_TIMINGS = record({"task_id": TEXT, "status": STATUS, "total_duration_ms": WHOLE})
_DELETED = record({"deleted": array(TEXT), "skipped": array({"type": "object"})})
_LOGS = record(
    {
        "task_id": TEXT,
        "status": STATUS,
        "events": array(ref("Event")),
        "logs": array(ref("Log")),
    }
)
_STREAM = {
    "application/x-ndjson": {"type": "string", "description": "A Task in each line."},
    "text/event-stream": {"type": "string", "description": "A Task in each event."},
}
_BYTES = {"*/*": {"type": "string", "format": "binary"}}


def _app_paths() -> dict[str, dict[str, Json]]:
    return {
        "/apps/run": {
            "post": operation(
                "Run an app", ref("TaskResult"), body="RunRequest", more=(409, 410, 412, 507)
            )
        },
        "/apps/list": {"post": operation("List the apps", page("App"), body="ListRequest")},
        "/apps/{app_id}": {"get": operation("An app by its id", ref("App"))},
        "/apps/{namespace}/{name}": {"get": operation("An app by its name", ref("App"))},
        "/apps/{app_id}/versions/{version_id}": {
            "get": operation("A version of an app", {"type": "object"})
        },
    }


def _task_paths() -> dict[str, dict[str, Json]]:
    task, result, file = ref("Task"), ref("TaskResult"), ref("File")
    return {
        "/tasks/list": {"post": operation("List tasks", page("Task"), body="ListRequest")},
        _TASK: {
            "get": operation("A task", task),
            "delete": operation("Delete a task", status=204, query={"files": FLAG}, more=(409,)),
        },
        f"{_TASK}/status": {
            "get": operation(
                "A task's status", record({"id": TEXT, "status": STATUS, "updated_at": TIME})
            )
        },
        f"{_TASK}/stream": {"get": operation("Follow a task until it ends", raw=_STREAM)},
        f"{_TASK}/logs": {"get": operation("What a task said", _LOGS)},
        f"{_TASK}/timings": {"get": operation("How long its stages took", _TIMINGS)},
        f"{_TASK}/cancel": {"post": operation("Cancel a task", result, more=(409,))},
        f"{_TASK}/retry": {"post": operation("Run it again", result, more=(409, 412, 507))},
        f"{_TASK}/files": {
            "get": operation("Files of a task", array(file), query=_ROLE),
            "delete": operation("Delete files of a task", _DELETED, query=_ROLE, more=(409,)),
        },
    }


def _file_paths() -> dict[str, dict[str, Json]]:
    file = ref("File")
    return {
        "/files": {
            "post": operation(
                "Declare files to upload", array(file), status=201, body="FileRequest", more=(507,)
            )
        },
        "/files/list": {"post": operation("List files", page("File"), body="ListRequest")},
        "/files/{file_id}": {
            "get": operation("A file's record", file),
            "delete": operation("Delete a file", status=204, more=(409,)),
        },
        "/files/{file_id}/upload/{expires}/{signature}": {
            "put": operation(
                "Upload a declared file, once",
                body="bytes",
                more=(403, 409, 415, 507),
                is_open=True,
                raw={},
            )
        },
        "/files/{file_id}/content/{filename}": {
            "get": operation("The bytes of a file", more=(416,), is_open=True, raw=_BYTES)
        },
    }


def _session_paths() -> dict[str, dict[str, Json]]:
    return {
        "/sessions": {"get": operation("List sessions", array(ref("Session")))},
        _SESSION: {
            "get": operation("A session", ref("Session"), more=(410,)),
            "delete": operation("End a session", status=204, more=(410,)),
        },
        f"{_SESSION}/keepalive": {"post": operation("Keep a session", ref("Session"), more=(410,))},
    }


def document(prefix: str) -> Json:
    """The document.

    Args:
        prefix: of the service, for example "/infsh".
    """
    paths = {
        **_app_paths(),
        **_task_paths(),
        **grid_paths(),
        **_file_paths(),
        **_session_paths(),
        **watch_paths(),
    }
    for path, operations in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            for operation in operations.values():
                operation.setdefault("parameters", []).extend(
                    {"name": name, "in": "path", "required": True, "schema": TEXT} for name in names
                )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wan on this machine",
            "version": "1",
            "description": "The API of the hosted apps wan2-1-i2v and wan-2-2-animate-v2v.",
        },
        "servers": [{"url": prefix}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": {**_SCHEMAS, **GRID_SCHEMAS},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
