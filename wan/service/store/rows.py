"""Single rows, written within a transaction that the caller has open."""

from __future__ import annotations

import sqlite3

from ..records import Delivery, Event, Task, iso, now
from .documents import to_document


def put_task(connection: sqlite3.Connection, task: Task) -> None:
    """Keep a new or changed task."""
    task.updated_at = now()
    connection.execute(
        "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "status = excluded.status, updated_at = excluded.updated_at, document = excluded.document",
        (
            task.id,
            task.app,
            int(task.status),
            task.key_id,
            task.session_id,
            iso(task.created_at),
            iso(task.updated_at),
            to_document(task),
        ),
    )


def add_event(connection: sqlite3.Connection, event: Event) -> None:
    """Keep an event."""
    values = (event.task_id, to_document(event))
    connection.execute("INSERT INTO events (task_id, document) VALUES (?, ?)", values)


def put_delivery(connection: sqlite3.Connection, delivery: Delivery) -> None:
    """Keep a new or changed delivery."""
    connection.execute(
        "INSERT INTO deliveries VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "next_at = excluded.next_at, document = excluded.document",
        (delivery.id, delivery.task_id, iso(delivery.next_at), to_document(delivery)),
    )


def link(connection: sqlite3.Connection, task_id: str, file_id: str, role: str) -> None:
    """Say that a file belongs to a task."""
    values = (task_id, file_id, role)
    connection.execute("INSERT OR IGNORE INTO task_files VALUES (?, ?, ?)", values)


def idempotent(connection: sqlite3.Connection, key_id: str, key: str) -> sqlite3.Row | None:
    """What an idempotency key was used with: body_hash and task_id, or None."""
    sql = "SELECT body_hash, task_id FROM idempotency WHERE key_id = ? AND key = ?"
    return connection.execute(sql, (key_id, key)).fetchone()
