"""Grids in the store. Every method is one transaction in the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ..records import Event, Grid, Task, iso
from ..statuses import Status
from .database import Database
from .documents import from_document, to_document
from .listing import ListQuery, Page, make_page, make_statement
from .rows import add_event, idempotent, link, put_task

_COLUMNS = ("id", "app", "key_id", "created_at")


class GridStore:
    """Grids, beside the tasks they made."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        grid: Grid,
        tasks: Sequence[Task],
        links: Iterable[tuple[str, str]],
        idempotency: tuple[str, str] | None = None,
    ) -> str:
        """Keep a new grid with all of its tasks, or nothing of it.

        Args:
            links: (task id, file id) of the input files.
            idempotency: (idempotency key, hash of the body).
        Returns:
            Its id; or that of the grid which the idempotency key belongs to, and nothing is kept.
        """

        def work(connection: sqlite3.Connection) -> str:
            if idempotency is not None:
                found = idempotent(connection, grid.key_id, idempotency[0])
                if found is not None:
                    return found["task_id"]
                connection.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)",
                    (grid.key_id, *idempotency, grid.id, iso(grid.created_at)),
                )
            _put(connection, grid)
            for task in tasks:
                put_task(connection, task)
                add_event(connection, Event(task.id, Status.RECEIVED))
            for task_id, file_id in links:
                link(connection, task_id, file_id, "input")
            return grid.id

        return await self._database.run(work)

    async def save(self, grid: Grid) -> None:
        """Keep a changed grid."""
        await self._database.run(lambda c: _put(c, grid))

    async def grid(self, grid_id: str) -> Grid | None:
        """A grid, or None."""
        rows = await self._rows("SELECT document FROM grids WHERE id = ?", grid_id)
        return from_document(Grid, rows[0][0]) if rows else None

    async def grids(self, query: ListQuery) -> Page[Grid]:
        """A page of grids."""
        statement = make_statement("grids", _COLUMNS, query)
        rows = await self._rows(statement.sql, *statement.values)
        return make_page(rows, query, statement, lambda text: from_document(Grid, text))

    async def made_before(self, time: datetime, most: int = 100) -> list[Grid]:
        """The oldest grids, for cleaning up."""
        sql = "SELECT document FROM grids WHERE created_at < ? ORDER BY created_at LIMIT ?"
        return [from_document(Grid, row[0]) for row in await self._rows(sql, iso(time), most)]

    async def delete(self, grid_id: str) -> None:
        """Forget a grid; its tasks stay."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM grids WHERE id = ?", (grid_id,))
            connection.execute("DELETE FROM idempotency WHERE task_id = ?", (grid_id,))

        await self._database.run(work)

    async def _rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return await self._database.run(lambda c: c.execute(sql, values).fetchall())


def _put(connection: sqlite3.Connection, grid: Grid) -> None:
    connection.execute(
        "INSERT INTO grids VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "document = excluded.document",
        (grid.id, grid.app, grid.key_id, iso(grid.created_at), to_document(grid)),
    )
