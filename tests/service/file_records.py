"""Records in memory, for tests of the parts around the store; tests of the store use the store."""

import asyncio
import copy
from pathlib import Path

from wan_local.wan.service.settings import Settings


class FileRecords:
    def __init__(self):
        self.kept, self.deliveries = {}, {}

    async def add_file(self, file):
        assert file.id not in self.kept
        self.kept[file.id] = copy.deepcopy(file)

    async def save_file(self, file):
        self.kept[file.id] = copy.deepcopy(file)

    async def file(self, file_id):
        return copy.deepcopy(self.kept.get(file_id))

    async def delete_file(self, file_id):
        self.kept.pop(file_id, None)

    async def use_upload(self, file_id):
        file = self.kept.get(file_id)
        if file is None or file.upload_expires is None:
            return False
        file.upload_expires = None
        return True

    async def due_deliveries(self, at):
        return [copy.deepcopy(d) for d in self.deliveries.values() if d.next_at and d.next_at <= at]

    async def next_delivery_at(self):
        return min((d.next_at for d in self.deliveries.values() if d.next_at), default=None)

    async def save_delivery(self, delivery):
        self.deliveries[delivery.id] = copy.deepcopy(delivery)


def settings(folder: Path, **changes) -> Settings:
    return Settings(folder, **{"min_free": 0, **changes})


async def stream(*chunks):
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


def on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
