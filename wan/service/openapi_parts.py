"""What the OpenAPI document is made of: schemas and operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .problems import HTTP_STATUSES
from .statuses import Status

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
TIME: Json = {"type": "string", "format": "date-time"}
WHOLE: Json = {"type": "integer", "minimum": 0}
ANY: Json = {}
STATUS: Json = {"type": "integer", "minimum": Status.RECEIVED, "maximum": Status.CANCELLED}
_REFUSALS = (400, 401, 404, 405, 413, 422, 429, 500, 503)
"""Any route may answer these; what else it may is named beside it."""


def nullable(schema: Json) -> Json:
    """A schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Json) -> Json:
    """An array."""
    return {"type": "array", "items": items}


def record(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    """An object."""
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


def ref(name: str) -> Json:
    """A schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def page(items: str) -> Json:
    """A page of a list."""
    return record(
        {
            "items": array(ref(items)),
            "next_cursor": TEXT,
            "prev_cursor": TEXT,
            "has_next": FLAG,
            "has_previous": FLAG,
            "items_per_page": WHOLE,
        }
    )


def operation(
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
            "content": {"application/json": {"schema": ref(body)}},
        }
    if query:
        operation["parameters"] = [
            {"name": name, "in": "query", "schema": schema} for name, schema in query.items()
        ]
    if is_open:
        operation["security"] = []
    return operation


def _envelope(data: Json) -> Json:
    return record(
        {"success": {"const": True}, "status": WHOLE, "data": data, "messages": array(ANY)}
    )


def _refusals(more: Sequence[int]) -> Json:
    problem = {"application/problem+json": {"schema": ref("Problem")}}
    words = {status: code for code, status in HTTP_STATUSES.items()}
    return {
        str(status): {"description": words[status].replace("_", " "), "content": problem}
        for status in sorted({*_REFUSALS, *more})
    }
