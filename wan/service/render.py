"""Records as answers carry them. Addresses of files are made here, at each reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from .links import Links
from .records import Event, File, LogLine, Session, Task, iso
from .settings import Settings
from .store import Store

_MOST_LOGS = 20
"""Lines in each update of a stream; all of them would make it slower with every line."""


class Renderer:
    """Makes answers.

    Args:
        store: has files, events and logs.
        links: makes addresses.
        position: place of a waiting task in the queue, from 1; 0 for others.
    """

    def __init__(
        self, store: Store, links: Links, settings: Settings, position: Callable[[str], int]
    ) -> None:
        self._store, self._links, self._position = store, links, position
        self._settings = settings

    def result(self, task: Task, output: Any = None) -> dict[str, Any]:
        """The short form, which answers to run, cancel and retry have."""
        return {
            "id": task.id,
            "short_id": task.id[-6:],
            "status": int(task.status),
            "status_text": task.status.text,
            "output": output,
            "error": task.error,
            "session_id": task.session_id,
            "created_at": iso(task.created_at),
            "updated_at": iso(task.updated_at),
            "run_at": iso(task.run_at),
            "progress": round(task.progress, 1),
            "queue_position": self._position(task.id),
        }

    async def tasks(self, tasks: Sequence[Task], origin: str) -> list[dict[str, Any]]:
        """Many tasks, without events and logs."""
        # As they are now: one that ends while its files are looked up would be half of each.
        tasks = [replace(task, input=dict(task.input)) for task in tasks]
        wanted = {i for task in tasks for value in _values(task) for i in _file_ids(value)}
        files = await self._store.some_files(wanted)
        return [self._task(task, files, origin) for task in tasks]

    async def task(self, task: Task, origin: str) -> dict[str, Any]:
        """One task with its events and its last log lines."""
        found = (await self.tasks([task], origin))[0]
        events, logs = (
            await self._store.events(task.id),
            await self._store.logs(task.id, _MOST_LOGS),
        )
        return {**found, "events": list(map(event, events)), "logs": list(map(log_line, logs))}

    async def output(self, task: Task, origin: str) -> Any:
        """What it made, with addresses; None unless completed."""
        files = await self._store.some_files(set(_file_ids(task.output)))
        return self._filled(task.output, files, origin)

    def file(self, file: File, origin: str, role: str | None = None) -> dict[str, Any]:
        """A file."""
        found = {
            "id": file.id,
            "short_id": file.id[-6:],
            "created_at": iso(file.created_at),
            "updated_at": iso(file.updated_at),
            "uri": self._links.content_url(origin, file),
            "path": "",
            "remote_path": "",
            "content_type": file.content_type,
            "size": file.size,
            "filename": file.filename,
            "metadata": file.metadata,
        }
        if file.upload_expires is not None:
            found["upload_url"] = self._links.upload_url(origin, file)
        if role is not None:
            found["role"] = role
        return found

    def _task(self, task: Task, files: dict[str, File], origin: str) -> dict[str, Any]:
        preview = None
        if task.preview:
            base = self._settings.public_url or origin + self._settings.prefix
            preview = f"{base.rstrip('/')}/tasks/{task.id}/preview/{task.preview}.jpg"
        return {
            **self.result(task, self._filled(task.output, files, origin)),
            "app": task.app,
            "app_version_id": task.version_id,
            "function": task.function,
            "input": self._filled(task.input, files, origin),
            "webhook": task.webhook,
            "setup": task.setup,
            "metadata": task.metadata,
            "attempts": task.attempts,
            "stage": task.stage,
            "eta_seconds": None if task.eta_seconds is None else round(task.eta_seconds, 1),
            "preview": preview,
        }

    def _filled(self, value: Any, files: dict[str, File], origin: str) -> Any:
        """A value with addresses in place of files."""
        if not isinstance(value, dict):
            return value
        if "$url" in value:
            return value["$url"]
        if "$file" in value:
            file = files.get(value["$file"])
            if file is None:  # deleted
                return None
            uri = self._links.content_url(origin, file)
            if not value.get("is_object"):
                return uri
            return {
                "uri": uri,
                "path": file.filename,
                "content_type": file.content_type,
                "size": file.size,
                "filename": file.filename,
            }
        return {name: self._filled(part, files, origin) for name, part in value.items()}


def event(record: Event) -> dict[str, Any]:
    """An event."""
    at = iso(record.created_at)
    return {
        "id": record.id,
        "created_at": at,
        "event_time": at,
        "task_id": record.task_id,
        "status": int(record.status),
    }


def log_line(record: LogLine) -> dict[str, Any]:
    """A line of a log."""
    at = iso(record.created_at)
    return {
        "id": record.id,
        "created_at": at,
        "updated_at": at,
        "task_id": record.task_id,
        "log_type": record.log_type,
        "content": record.content,
    }


def session(record: Session) -> dict[str, Any]:
    """A session."""
    expires = record.last_call_at + timedelta(seconds=record.idle_timeout)
    return {
        "id": record.id,
        "app": record.app,
        "status": record.status,
        "idle_timeout": record.idle_timeout,
        "call_count": record.call_count,
        "last_call_at": iso(record.last_call_at),
        "expires_at": iso(expires),
        "created_at": iso(record.created_at),
    }


def _values(task: Task) -> Iterable[Any]:
    return (task.input, task.output)


def _file_ids(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if "$file" in value:
            yield value["$file"]
        else:
            for part in value.values():
                yield from _file_ids(part)
