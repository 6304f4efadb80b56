"""The store: records in, records out. Every method is one transaction in the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from ..records import Delivery, Event, File, LogLine, Session, Task, iso
from ..statuses import ENDS
from .database import Database
from .documents import from_document, to_document
from .listing import ListQuery, Page, make_page, make_statement
from .rows import add_event, idempotent, link, put_delivery, put_task

R = TypeVar("R")
_MOST_LOGS = 2000
"""Lines kept of one task; the first ones go."""
_MOST_TIMINGS = 50
_TASK_COLUMNS = ("id", "app", "status", "key_id", "session_id", "created_at", "updated_at")
_FILE_COLUMNS = ("id", "created_at", "content_type", "filename", "key_id")
_NO_QUERY = ListQuery()


class Store:
    """Tasks, events, logs, files, deliveries, sessions and timings; made by `Store.open`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Open a store.

        Args:
            path: the file; made with its folder if missing.
        """
        database = Database(path)
        await database.open()
        return cls(database)

    async def close(self) -> None:
        """Finish what is under way and close."""
        await self._database.close()

    # Tasks

    async def add_task(
        self,
        task: Task,
        events: Sequence[Event] = (),
        idempotency: tuple[str, str, str] | None = None,
        links: Iterable[tuple[str, str]] = (),
    ) -> str:
        """Keep a new task.

        Args:
            events: its first.
            idempotency: (key id, idempotency key, hash of the body).
            links: (file id, role) of its files.
        Returns:
            Its id; or that of the task which the idempotency key belongs to, and nothing is kept.
        """

        def work(connection: sqlite3.Connection) -> str:
            if idempotency is not None:
                found = idempotent(connection, *idempotency[:2])
                if found is not None:
                    return found["task_id"]
                connection.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)",
                    (*idempotency, task.id, iso(task.created_at)),
                )
            put_task(connection, task)
            for event in events:
                add_event(connection, event)
            for file_id, role in links:
                link(connection, task.id, file_id, role)
            return task.id

        return await self._database.run(work)

    async def save_task(
        self,
        task: Task,
        *,
        event: Event | None = None,
        delivery: Delivery | None = None,
        links: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Keep a changed task, together with what belongs to the change.

        Args:
            event: the status it reached.
            delivery: the webhook that its end causes.
            links: (file id, role) of files that came with it.
        """

        def work(connection: sqlite3.Connection) -> None:
            put_task(connection, task)
            if event is not None:
                add_event(connection, event)
            if delivery is not None:
                put_delivery(connection, delivery)
            for file_id, role in links:
                link(connection, task.id, file_id, role)

        await self._database.run(work)

    async def task(self, task_id: str) -> Task | None:
        """A task, or None."""
        return await self._one(Task, "SELECT document FROM tasks WHERE id = ?", task_id)

    async def tasks(self, query: ListQuery = _NO_QUERY) -> Page[Task]:
        """A page of tasks."""
        return await self._page(Task, "tasks", _TASK_COLUMNS, query)

    async def some_tasks(self, task_ids: Iterable[str]) -> dict[str, Task]:
        """Those of the tasks that are there, by id."""
        wanted = list(task_ids)
        sql = f"SELECT document FROM tasks WHERE id IN ({', '.join('?' * len(wanted))})"
        return {task.id: task for task in await self._many(Task, sql, *wanted)}

    async def open_tasks(self) -> list[Task]:
        """All that have not ended, oldest first."""
        marks = ", ".join("?" * len(ENDS))
        sql = f"SELECT document FROM tasks WHERE status NOT IN ({marks}) ORDER BY created_at, rowid"
        return await self._many(Task, sql, *map(int, ENDS))

    async def ended_before(self, time: datetime, most: int = 100) -> list[Task]:
        """Ended tasks that have not changed since, for cleaning up."""
        marks = ", ".join("?" * len(ENDS))
        sql = f"SELECT document FROM tasks WHERE updated_at < ? AND status IN ({marks}) LIMIT ?"
        return await self._many(Task, sql, iso(time), *map(int, ENDS), most)

    async def delete_task(self, task_id: str) -> None:
        """Forget a task and what belongs to it; its files stay."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM tasks WHERE id = ?", (task_id,))
            for table in ("events", "logs", "task_files", "deliveries", "idempotency"):
                connection.execute(f"DELETE FROM {table} WHERE task_id = ?", (task_id,))

        await self._database.run(work)

    async def events(self, task_id: str) -> list[Event]:
        """Events of a task, oldest first."""
        sql = "SELECT document FROM events WHERE task_id = ? ORDER BY number"
        return await self._many(Event, sql, task_id)

    async def add_logs(self, lines: Sequence[LogLine]) -> None:
        """Add lines whose ids are new; of more than 2000 of one task the oldest go."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO logs (task_id, document) SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 "
                "FROM logs WHERE task_id = ?1 AND json_extract(document, '$.id') = ?3)",
                [(line.task_id, to_document(line), line.id) for line in lines],
            )
            for task_id in {line.task_id for line in lines}:
                connection.execute(
                    "DELETE FROM logs WHERE task_id = ? AND number <= (SELECT number FROM logs "
                    "WHERE task_id = ? ORDER BY number DESC LIMIT 1 OFFSET ?)",
                    (task_id, task_id, _MOST_LOGS),
                )

        await self._database.run(work)

    async def logs(self, task_id: str, last: int | None = None) -> list[LogLine]:
        """Lines of a task, oldest first; of `last` given only so many."""
        sql = "SELECT document FROM logs WHERE task_id = ? ORDER BY number DESC LIMIT ?"
        found = await self._many(LogLine, sql, task_id, -1 if last is None else last)
        return found[::-1]

    async def idempotent(self, key_id: str, key: str) -> tuple[str, str] | None:
        """(hash of the body, task id) that an idempotency key was used with, or None."""
        row = await self._database.run(lambda c: idempotent(c, key_id, key))
        return None if row is None else (row["body_hash"], row["task_id"])

    # Files

    async def add_file(self, file: File) -> None:
        """Keep a new file's record."""
        await self.save_file(file)

    async def save_file(self, file: File) -> None:
        """Keep a changed record."""
        await self._database.run(
            lambda c: c.execute(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                "content_type = excluded.content_type, filename = excluded.filename, "
                "upload_expires = excluded.upload_expires, document = excluded.document",
                (
                    file.id,
                    iso(file.created_at),
                    file.content_type,
                    file.filename,
                    file.key_id,
                    file.upload_expires,
                    to_document(file),
                ),
            )
        )

    async def file(self, file_id: str) -> File | None:
        """A record, or None."""
        return await self._one(File, "SELECT document FROM files WHERE id = ?", file_id)

    async def some_files(self, file_ids: Iterable[str]) -> dict[str, File]:
        """Those of the files that are there, by id."""
        wanted = list(file_ids)
        sql = f"SELECT document FROM files WHERE id IN ({', '.join('?' * len(wanted))})"
        return {file.id: file for file in await self._many(File, sql, *wanted)}

    async def files(self, query: ListQuery = _NO_QUERY) -> Page[File]:
        """A page of files."""
        return await self._page(File, "files", _FILE_COLUMNS, query)

    async def delete_file(self, file_id: str) -> None:
        """Forget a file."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM files WHERE id = ?", (file_id,))
            connection.execute("DELETE FROM task_files WHERE file_id = ?", (file_id,))

        await self._database.run(work)

    async def files_of(self, task_id: str, role: str | None = None) -> list[tuple[str, File]]:
        """(role, file) of a task's files; of one role if it is named."""
        rows = await self._rows(
            "SELECT role, document FROM task_files JOIN files ON files.id = file_id "
            "WHERE task_id = ? AND (? IS NULL OR role = ?) ORDER BY task_files.rowid",
            task_id,
            role,
            role,
        )
        return [(row["role"], from_document(File, row["document"])) for row in rows]

    async def tasks_of(self, file_id: str) -> list[Task]:
        """Tasks that a file belongs to."""
        sql = (
            "SELECT tasks.document FROM task_files JOIN tasks ON tasks.id = task_id "
            "WHERE file_id = ?"
        )
        return await self._many(Task, sql, file_id)

    async def link(self, task_id: str, file_id: str, role: str) -> None:
        """Say that a file belongs to a task: input, output or preview."""
        await self._database.run(lambda c: link(c, task_id, file_id, role))

    async def use_upload(self, file_id: str) -> bool:
        """Mark an upload link as used; False if it was before, or if there is no such file."""

        def work(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE files SET upload_expires = NULL, document = json_set(document, "
                "'$.upload_expires', NULL) WHERE id = ? AND upload_expires IS NOT NULL",
                (file_id,),
            )
            return changed.rowcount == 1

        return await self._database.run(work)

    async def never_uploaded(self, time: int) -> list[File]:
        """Declared files whose link expired before then (Unix seconds)."""
        return await self._many(File, "SELECT document FROM files WHERE upload_expires < ?", time)

    async def stored(self) -> tuple[int, int]:
        """Number and bytes of the files that are there."""
        [row] = await self._rows(
            "SELECT count(*), coalesce(sum(json_extract(document, '$.size')), 0) FROM files "
            "WHERE json_extract(document, '$.path') != ''"
        )
        return row[0], row[1]

    # Deliveries

    async def save_delivery(self, delivery: Delivery) -> None:
        """Keep a new or changed delivery."""
        await self._database.run(lambda c: put_delivery(c, delivery))

    async def due_deliveries(self, at: datetime) -> list[Delivery]:
        """Those that should be tried by then, oldest first."""
        sql = "SELECT document FROM deliveries WHERE next_at <= ? ORDER BY next_at"
        return await self._many(Delivery, sql, iso(at))

    async def next_delivery_at(self) -> datetime | None:
        """When the next one is due, or None."""
        sql = "SELECT document FROM deliveries WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1"
        found = await self._many(Delivery, sql)
        return found[0].next_at if found else None

    async def deliveries(self, task_id: str) -> list[Delivery]:
        """Deliveries of a task."""
        return await self._many(
            Delivery, "SELECT document FROM deliveries WHERE task_id = ? ORDER BY rowid", task_id
        )

    # Sessions

    async def save_session(self, session: Session) -> None:
        """Keep a new or changed session."""
        await self._database.run(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)",
                (session.id, iso(session.created_at), to_document(session)),
            )
        )

    async def session(self, session_id: str) -> Session | None:
        """A session, or None."""
        return await self._one(Session, "SELECT document FROM sessions WHERE id = ?", session_id)

    async def sessions(self) -> list[Session]:
        """The 200 newest."""
        sql = "SELECT document FROM sessions ORDER BY created_at DESC LIMIT 200"
        return await self._many(Session, sql)

    # Timings

    async def add_timing(self, app: str, name: str, size: float, seconds: float) -> None:
        """Remember how long a stage of an app took.

        Args:
            name: of the stage; "" for the whole job.
            size: what the time grows with, for example pixels times frames times steps.
        """
        await self._database.run(
            lambda c: c.execute(
                "INSERT INTO timings (app, name, size, seconds) VALUES (?, ?, ?, ?)",
                (app, name, size, seconds),
            )
        )

    async def timings(self, app: str) -> list[tuple[str, float, float]]:
        """(name, size, seconds) of the last 50, newest first."""
        sql = "SELECT name, size, seconds FROM timings WHERE app = ? ORDER BY number DESC LIMIT ?"
        return [tuple(row) for row in await self._rows(sql, app, _MOST_TIMINGS)]

    async def _rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return await self._database.run(lambda c: c.execute(sql, values).fetchall())

    async def _many(self, kind: type[R], sql: str, *values: Any) -> list[R]:
        return [from_document(kind, row[0]) for row in await self._rows(sql, *values)]

    async def _one(self, kind: type[R], sql: str, *values: Any) -> R | None:
        found = await self._many(kind, sql, *values)
        return found[0] if found else None

    async def _page(
        self, kind: type[R], table: str, columns: tuple[str, ...], query: ListQuery
    ) -> Page[R]:
        statement = make_statement(table, columns, query)
        rows = await self._rows(statement.sql, *statement.values)
        return make_page(rows, query, statement, lambda text: from_document(kind, text))
