"""The store with its files and deliveries in sight, and what else tests around it share."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

from wan_local.wan.service.records import Delivery, File
from wan_local.wan.service.settings import Settings
from wan_local.wan.service.store import Store
from wan_local.wan.service.store.documents import from_document


class Records(Store):
    """What is in the database can be read at any moment, inside and outside of a loop."""

    @contextlib.contextmanager
    @staticmethod
    def opened(folder: Path):
        records = asyncio.run(Records.open(folder / "store.db"))
        records.file_path = folder / "store.db"
        yield records
        asyncio.run(records.close())

    @property
    def kept(self) -> dict[str, File]:
        return self._all("files", File)

    @property
    def sent(self) -> dict[str, Delivery]:
        return self._all("deliveries", Delivery)

    def _all(self, table, kind):
        with contextlib.closing(sqlite3.connect(self.file_path)) as connection:
            rows = connection.execute(f"SELECT id, document FROM {table}").fetchall()
        return {key: from_document(kind, document) for key, document in rows}


def settings(folder: Path, **changes) -> Settings:
    return Settings(folder, **{"min_free": 0, **changes})


async def stream(*chunks):
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def on_disk(folder: Path) -> list[str]:
    """Names of all files but the database."""
    found = (path.name for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith("store.db"))
