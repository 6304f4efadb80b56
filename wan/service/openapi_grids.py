"""The parts of the OpenAPI document about grids, workers and metrics."""

from __future__ import annotations

from .openapi_parts import (
    FLAG,
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

_PERCENT: Json = {"type": "number", "minimum": 0, "maximum": 100}
_ITEM = record(
    {
        "number": {"type": "integer", "minimum": 1},
        "values": {"type": "object"},
        "task_id": TEXT,
        "status": {"type": "integer", "minimum": 0, "maximum": 12},
        "status_text": TEXT,
        "progress": _PERCENT,
        "stage": TEXT,
        "queue_position": WHOLE,
        "eta_seconds": nullable({"type": "number"}),
        "preview": nullable(TEXT),
        "output": nullable({"type": "object"}),
        "error": TEXT,
    }
)
_COUNTS = record(dict.fromkeys(("waiting", "running", "completed", "failed", "cancelled"), WHOLE))
GRID_SCHEMAS: dict[str, Json] = {
    "Grid": record(
        {
            "id": TEXT,
            "app": TEXT,
            "status": {"type": "integer", "minimum": 0, "maximum": 12},
            "status_text": TEXT,
            "progress": _PERCENT,
            "counts": _COUNTS,
            "grid": {"type": "object", "additionalProperties": {"type": "array"}},
            "items": array(_ITEM),
            "created_at": TIME,
            "updated_at": TIME,
        }
    ),
    "GridRequest": record(
        {
            "app": TEXT,
            "grid": {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {"type": "array", "minItems": 1},
                "description": "Lists of values by parameter. All combinations run; the last "
                "parameter changes fastest.",
            },
        },
        {
            "input": {"type": "object", "description": "The other parameters."},
            "webhook": nullable(TEXT),
            "function": nullable(TEXT),
            "run_at": nullable(TIME),
            "setup": nullable({"type": "object"}),
            "metadata": nullable({"type": "object"}),
        },
    ),
}
_WORKER = record(
    {
        "id": TEXT,
        "node": TEXT,
        "devices": array(TEXT),
        "models": array(TEXT),
        "status": {"enum": ["idle", "busy", "starting"]},
        "task_id": nullable(TEXT),
        "seconds_per_step": nullable({"type": "number", "minimum": 0}),
        "jobs_done": WHOLE,
    }
)
_NUMBERS: Json = {"type": "object", "additionalProperties": WHOLE}
_CLUSTER = record(
    {
        "executor": TEXT,
        "workers": array(_WORKER),
        "queue": record({"waiting": WHOLE, "by_key": _NUMBERS, "by_priority": _NUMBERS}),
        "links": record({"dashboard": nullable(TEXT)}),
    }
)
_GRID = "/grids/{grid_id}"
_STREAM = {
    "application/x-ndjson": {"type": "string", "description": "A Grid in each line."},
    "text/event-stream": {"type": "string", "description": "A Grid in each event."},
}
_LIST = {"limit": {"type": "integer", "minimum": 1, "maximum": 200}, "cursor": TEXT}


def grid_paths() -> dict[str, dict[str, Json]]:
    """Operations by path and method."""
    grid = ref("Grid")
    return {
        "/grids": {
            "post": operation(
                "Run an app with all combinations of some values",
                grid,
                body="GridRequest",
                more=(409, 412, 507),
            ),
            "get": operation("List grids, newest first", page("Grid"), query=_LIST),
        },
        _GRID: {
            "get": operation("A grid with its items", grid),
            "delete": operation(
                "Delete a grid and its tasks", status=204, query={"files": FLAG}, more=(409,)
            ),
        },
        f"{_GRID}/stream": {
            "get": operation("Follow a grid until all of its tasks have ended", raw=_STREAM)
        },
        f"{_GRID}/cancel": {
            "post": operation("Cancel the tasks of a grid that have not ended", grid, more=(409,))
        },
        f"{_GRID}/sheet": {
            "get": operation(
                "The results of a grid in one video, as a file", ref("File"), more=(409, 507)
            )
        },
    }


def watch_paths() -> dict[str, dict[str, Json]]:
    """Operations by path and method."""
    return {
        "/cluster": {"get": operation("Workers and queue", _CLUSTER)},
        "/metrics": {
            "get": operation(
                "Metrics for Prometheus, which can send the key", raw={"text/plain": TEXT}
            )
        },
    }
