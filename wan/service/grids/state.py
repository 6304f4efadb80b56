"""A grid as answers carry it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..records import Grid, iso
from ..statuses import Status

_TAKEN = ("progress", "stage", "queue_position", "eta_seconds", "preview", "output", "error")
_GONE = {
    "progress": 0.0,
    "stage": "",
    "queue_position": 0,
    "eta_seconds": None,
    "preview": None,
    "output": None,
    "error": "The task was deleted.",
}


def grid_state(grid: Grid, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The answer.

    Args:
        tasks: those that are there, as answers carry them, by id.
    """
    items = [
        _item(number, item, tasks.get(item["task_id"])) for number, item in enumerate(grid.items, 1)
    ]
    statuses = [Status(item["status"]) for item in items]
    shares = [
        item["progress"] if Status.UNKNOWN < status < Status.COMPLETED else 100.0
        for item, status in zip(items, statuses, strict=True)
    ]
    status = _status(statuses)
    times = [task["updated_at"] for task in tasks.values()]
    return {
        "id": grid.id,
        "app": grid.app,
        "status": int(status),
        "status_text": status.text,
        "progress": round(sum(shares) / len(shares), 1),
        "counts": {
            "waiting": sum(Status.UNKNOWN < s <= Status.QUEUED for s in statuses),
            "running": sum(Status.QUEUED < s < Status.COMPLETED for s in statuses),
            "completed": statuses.count(Status.COMPLETED),
            "failed": statuses.count(Status.FAILED),
            "cancelled": statuses.count(Status.CANCELLED),
        },
        "grid": _axes(grid, items),
        "items": items,
        "created_at": iso(grid.created_at),
        "updated_at": max(times, default=iso(grid.created_at)),
    }


def _item(number: int, item: Mapping[str, Any], task: Mapping[str, Any] | None) -> dict[str, Any]:
    status = Status(task["status"]) if task else Status.UNKNOWN
    values = item["values"]
    return {
        "number": number,
        "values": {
            n: task["input"].get(n) if task else _without_file(v) for n, v in values.items()
        },
        "task_id": item["task_id"],
        "status": int(status),
        "status_text": status.text,
        **({name: task[name] for name in _TAKEN} if task else _GONE),
    }


def _axes(grid: Grid, items: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The listed values, as the items have them."""
    axes, stride = {}, len(items)
    for name, values in grid.axes.items():
        stride //= len(values)
        axes[name] = [items[place * stride]["values"][name] for place in range(len(values))]
    return axes


def _status(statuses: Sequence[Status]) -> Status:
    """Of the whole: as its tasks, once all have ended; a failure says more than a completion."""
    left = [s for s in statuses if Status.UNKNOWN < s < Status.COMPLETED]
    if left:
        is_begun = len(left) < len(statuses) or max(left) > Status.QUEUED
        return Status.RUNNING if is_begun else Status.QUEUED
    for status in (Status.FAILED, Status.CANCELLED, Status.COMPLETED):
        if status in statuses:
            return status
    return Status.UNKNOWN


def _without_file(value: Any) -> Any:
    """The value of a task that is gone: its file is nowhere linked any more."""
    return None if isinstance(value, Mapping) else value
