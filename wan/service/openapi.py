"""The OpenAPI 3.1 document of all routes, for readers, generators and the property-based tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .problems import HTTP_STATUSES
from .statuses import Status

Json = dict[str, Any]
_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_TIME: Json = {"type": "string", "format": "date-time"}
_WHOLE: Json = {"type": "integer", "minimum": 0}
_ANY: Json = {}
_STATUS: Json = {"type": "integer", "minimum": Status.RECEIVED, "maximum": Status.CANCELLED}
_REFUSALS = (400, 401, 404, 405, 413, 422, 429, 500, 503)
"""Any route may answer these; what else it may is named beside it."""


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _record(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _page(items: str) -> Json:
    return _record(
        {
            "items": _list(_ref(items)),
            "next_cursor": _TEXT,
            "prev_cursor": _TEXT,
            "has_next": _FLAG,
            "has_previous": _FLAG,
            "items_per_page": _WHOLE,
        }
    )


_RESULT: dict[str, Json] = {
    "id": _TEXT,
    "short_id": _TEXT,
    "status": _STATUS,
    "status_text": _TEXT,
    "output": _nullable({"type": "object"}),
    "error": _TEXT,
    "session_id": _nullable(_TEXT),
    "created_at": _TIME,
    "updated_at": _TIME,
    "progress": {"type": "number", "minimum": 0, "maximum": 100},
    "queue_position": _WHOLE,
}
_SCHEMAS: dict[str, Json] = {
    "TaskResult": _record(_RESULT),
    "Task": _record(
        {
            **_RESULT,
            "app": _TEXT,
            "function": _TEXT,
            "input": {"type": "object"},
            "attempts": _WHOLE,
            "stage": _TEXT,
            "eta_seconds": _nullable({"type": "number"}),
            "preview": _nullable(_TEXT),
            "webhook": _nullable(_TEXT),
            "app_version_id": _TEXT,
        },
        # A list leaves them out.
        {"logs": _list(_ref("Log")), "events": _list(_ref("Event"))},
    ),
    "Log": _record({"id": _TEXT, "task_id": _TEXT, "log_type": _WHOLE, "content": _TEXT}),
    "Event": _record({"id": _TEXT, "task_id": _TEXT, "status": _STATUS, "created_at": _TIME}),
    "File": _record(
        {
            "id": _TEXT,
            "uri": _TEXT,
            "path": _TEXT,
            "content_type": _TEXT,
            "size": _nullable(_WHOLE),
            "filename": _nullable(_TEXT),
            "created_at": _TIME,
            "updated_at": _TIME,
        },
        {"upload_url": _TEXT},
    ),
    "App": _record({"id": _TEXT, "namespace": _TEXT, "name": _TEXT, "status": _TEXT}),
    "Session": _record({"id": _TEXT, "status": _TEXT, "call_count": _WHOLE}),
    "Problem": _record(
        {"type": _TEXT, "title": _TEXT, "status": _WHOLE, "detail": _TEXT, "code": _TEXT},
        {"errors": _list({"type": "object"})},
    ),
    "RunRequest": _record(
        {"app": _TEXT, "input": {"type": "object"}},
        {
            "webhook": _nullable(_TEXT),
            "session": _nullable(_TEXT),
            "session_timeout": _nullable({"type": "integer", "minimum": 1, "maximum": 3600}),
            "function": _nullable(_TEXT),
            "run_at": _nullable(_TIME),
            "setup": _nullable({"type": "object"}),
            "metadata": _nullable(
                {
                    "type": "object",
                    "properties": {
                        "priority": {"type": "integer", "minimum": -10, "maximum": 10, "default": 0}
                    },
                }
            ),
        },
    ),
    "FileRequest": _record(
        {
            "files": _list(
                _record(
                    {},
                    {
                        "filename": _nullable(_TEXT),
                        "content_type": _nullable(_TEXT),
                        "size": _nullable(_WHOLE),
                        "uri": _nullable(_TEXT),
                        "path": _nullable(_TEXT),
                    },
                )
            )
        }
    ),
    "ListRequest": _record(
        {},
        {
            "cursor": _nullable(_TEXT),
            "limit": _nullable({"type": "integer", "minimum": 1, "maximum": 200}),
            "filters": _nullable(
                _list(_record({"field": _TEXT, "operator": _TEXT}, {"value": _ANY}))
            ),
            "sort": _nullable(_list(_record({"field": _TEXT}, {"dir": _TEXT}))),
            "search": _nullable(_TEXT),
        },
    ),
}


def _operation(
    summary: str,
    answer: Json | None = None,
    *,
    status: int = 200,
    body: str | None = None,
    query: Mapping[str, Json] | None = None,
    more: Sequence[int] = (),
    is_open: bool = False,
    raw: Mapping[str, Json] | None = None,
) -> Json:
    """One operation.

    Args:
        answer: schema of what the envelope holds; None: no content.
        body: name of the request's schema; "bytes" for a file.
        query: schemas of query parameters.
        more: statuses beyond those that every route may answer.
        is_open: whether it works without a key.
        raw: content types and schemas of an answer without the envelope.
    """
    operation: Json = {"summary": summary, "responses": _refusals(more)}
    success: Json = {"description": "Done."}
    if raw is not None:
        success["content"] = {kind: {"schema": schema} for kind, schema in raw.items()}
    elif answer is not None:
        success["content"] = {"application/json": {"schema": _envelope(answer)}}
    operation["responses"][str(status)] = success
    if body == "bytes":
        operation["requestBody"] = {
            "required": True,
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        }
    elif body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(body)}},
        }
    if query:
        operation["parameters"] = [
            {"name": name, "in": "query", "schema": schema} for name, schema in query.items()
        ]
    if is_open:
        operation["security"] = []
    return operation


def _envelope(data: Json) -> Json:
    return _record(
        {"success": {"const": True}, "status": _WHOLE, "data": data, "messages": _list(_ANY)}
    )


def _refusals(more: Sequence[int]) -> Json:
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    words = {status: code for code, status in HTTP_STATUSES.items()}
    return {
        str(status): {"description": words[status].replace("_", " "), "content": problem}
        for status in sorted({*_REFUSALS, *more})
    }


_TASK = "/tasks/{task_id}"
_SESSION = "/sessions/{session_id}"
_ROLE = {"role": {"enum": ["input", "output"]}}
_TIMINGS = _record({"task_id": _TEXT, "status": _STATUS, "total_duration_ms": _WHOLE})
_DELETED = _record({"deleted": _list(_TEXT), "skipped": _list({"type": "object"})})
_LOGS = _record(
    {
        "task_id": _TEXT,
        "status": _STATUS,
        "events": _list(_ref("Event")),
        "logs": _list(_ref("Log")),
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
            "post": _operation(
                "Run an app", _ref("TaskResult"), body="RunRequest", more=(409, 410, 412, 507)
            )
        },
        "/apps/list": {"post": _operation("List the apps", _page("App"), body="ListRequest")},
        "/apps/{app_id}": {"get": _operation("An app by its id", _ref("App"))},
        "/apps/{namespace}/{name}": {"get": _operation("An app by its name", _ref("App"))},
        "/apps/{app_id}/versions/{version_id}": {
            "get": _operation("A version of an app", {"type": "object"})
        },
    }


def _task_paths() -> dict[str, dict[str, Json]]:
    task, result, file = _ref("Task"), _ref("TaskResult"), _ref("File")
    return {
        "/tasks/list": {"post": _operation("List tasks", _page("Task"), body="ListRequest")},
        _TASK: {
            "get": _operation("A task", task),
            "delete": _operation("Delete a task", status=204, query={"files": _FLAG}, more=(409,)),
        },
        f"{_TASK}/status": {
            "get": _operation(
                "A task's status", _record({"id": _TEXT, "status": _STATUS, "updated_at": _TIME})
            )
        },
        f"{_TASK}/stream": {"get": _operation("Follow a task until it ends", raw=_STREAM)},
        f"{_TASK}/logs": {"get": _operation("What a task said", _LOGS)},
        f"{_TASK}/timings": {"get": _operation("How long its stages took", _TIMINGS)},
        f"{_TASK}/cancel": {"post": _operation("Cancel a task", result, more=(409,))},
        f"{_TASK}/retry": {"post": _operation("Run it again", result, more=(409, 412, 507))},
        f"{_TASK}/files": {
            "get": _operation("Files of a task", _list(file), query=_ROLE),
            "delete": _operation("Delete files of a task", _DELETED, query=_ROLE, more=(409,)),
        },
    }


def _file_paths() -> dict[str, dict[str, Json]]:
    file = _ref("File")
    return {
        "/files": {
            "post": _operation(
                "Declare files to upload", _list(file), status=201, body="FileRequest", more=(507,)
            )
        },
        "/files/list": {"post": _operation("List files", _page("File"), body="ListRequest")},
        "/files/{file_id}": {
            "get": _operation("A file's record", file),
            "delete": _operation("Delete a file", status=204, more=(409,)),
        },
        "/files/{file_id}/upload/{expires}/{signature}": {
            "put": _operation(
                "Upload a declared file, once",
                body="bytes",
                more=(403, 409, 415, 507),
                is_open=True,
                raw={},
            )
        },
        "/files/{file_id}/content/{filename}": {
            "get": _operation("The bytes of a file", more=(416,), is_open=True, raw=_BYTES)
        },
    }


def _session_paths() -> dict[str, dict[str, Json]]:
    return {
        "/sessions": {"get": _operation("List sessions", _list(_ref("Session")))},
        _SESSION: {
            "get": _operation("A session", _ref("Session"), more=(410,)),
            "delete": _operation("End a session", status=204, more=(410,)),
        },
        f"{_SESSION}/keepalive": {
            "post": _operation("Keep a session", _ref("Session"), more=(410,))
        },
    }


def document(prefix: str) -> Json:
    """The document.

    Args:
        prefix: of the service, for example "/infsh".
    """
    paths = {**_app_paths(), **_task_paths(), **_file_paths(), **_session_paths()}
    for path, operations in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        if names:
            for operation in operations.values():
                operation.setdefault("parameters", []).extend(
                    {"name": name, "in": "path", "required": True, "schema": _TEXT}
                    for name in names
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
            "schemas": _SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }
