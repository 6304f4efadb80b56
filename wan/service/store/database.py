"""One connection to SQLite, in one thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    id TEXT PRIMARY KEY, app TEXT, status INTEGER, key_id TEXT, session_id TEXT,
    created_at TEXT, updated_at TEXT, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS tasks_created ON tasks (created_at, id);
CREATE INDEX IF NOT EXISTS tasks_status ON tasks (status);
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY, task_id TEXT, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_task ON events (task_id);
CREATE TABLE IF NOT EXISTS logs (number INTEGER PRIMARY KEY, task_id TEXT, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS logs_task ON logs (task_id);
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, created_at TEXT, content_type TEXT, filename TEXT, key_id TEXT,
    upload_expires INTEGER, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS files_created ON files (created_at, id);
CREATE TABLE IF NOT EXISTS task_files (
    task_id TEXT, file_id TEXT, role TEXT, PRIMARY KEY (task_id, file_id, role));
CREATE INDEX IF NOT EXISTS task_files_file ON task_files (file_id);
CREATE TABLE IF NOT EXISTS deliveries (
    id TEXT PRIMARY KEY, task_id TEXT, next_at TEXT, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, created_at TEXT, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS idempotency (
    key_id TEXT, key TEXT, body_hash TEXT, task_id TEXT, created_at TEXT,
    PRIMARY KEY (key_id, key));
CREATE TABLE IF NOT EXISTS grids (
    id TEXT PRIMARY KEY, app TEXT, key_id TEXT, created_at TEXT, document TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS grids_created ON grids (created_at, id);
CREATE TABLE IF NOT EXISTS timings (
    number INTEGER PRIMARY KEY, app TEXT, name TEXT, size REAL, seconds REAL);
"""


class Database:
    """Runs functions on the connection, one after the other, never in the event loop.

    Each function is one transaction: what it changed is on the disk when `run` returns, or nothing
    of it is.
    """

    def __init__(self, path: Path) -> None:
        self._thread = ThreadPoolExecutor(1, "service store")
        self._path = path
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, or make it."""
        await self._call(self._connect)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call `work` with the connection, in a transaction."""

        def transact() -> T:
            assert self._connection is not None
            with self._connection:
                return work(self._connection)

        return await self._call(transact)

    async def close(self) -> None:
        """Close after what waits is done."""
        if self._connection is not None:
            await self._call(self._connection.close)
        self._thread.shutdown()

    def _connect(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an ended task stays ended without power
        connection.executescript(_SCHEMA)
        self._connection = connection

    async def _call(self, work: Callable[[], T]) -> T:
        # Shielded: whoever stops waiting must not leave half of what belongs together undone.
        running = asyncio.get_running_loop().run_in_executor(self._thread, work)
        return await asyncio.shield(running)
