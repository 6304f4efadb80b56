"""The end of a task: its files registered, its record, event and webhook saved as one."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..catalog import Catalog
from ..executor import Outcome
from ..files import FileStore
from ..problems import ApiError
from ..records import Event, File, Task
from ..render import Renderer
from ..statuses import Status
from ..store import Store
from ..watch.meter import Meter
from ..webhooks import Webhooks
from .estimate import work_size

_NAMES = ((480, "480p"), (720, "720p"), (1080, "1080p"), (1440, "1440p"))


class Endings:
    """Ends tasks."""

    def __init__(
        self,
        store: Store,
        files: FileStore,
        webhooks: Webhooks,
        renderer: Renderer,
        catalog: Catalog,
        jobs: Path,
        meter: Meter,
    ) -> None:
        self._store, self._files, self._webhooks = store, files, webhooks
        self._renderer, self._catalog, self._jobs = renderer, catalog, jobs
        self._meter = meter

    async def end(self, task: Task, outcome: Outcome, seconds: float = 0.0) -> None:
        """Save how a task ended. Changes `task` only when that is on the disk.

        Args:
            seconds: that it ran; kept for estimates if it completed.
        """
        seen, task = task, replace(task)
        links: list[tuple[str, str]] = []
        if outcome.status is Status.COMPLETED:
            try:
                task.output, links = await self._output(task, outcome)
            except (ApiError, OSError) as error:
                detail = error.detail if isinstance(error, ApiError) else str(error)
                outcome = Outcome(Status.FAILED, error=f"The result could not be kept: {detail}")
        task.status = outcome.status
        task.stage, task.eta_seconds, task.preview = "", None, None
        task.error = ""
        if task.status is Status.COMPLETED:
            task.progress = 100.0
        elif task.status is Status.FAILED:
            task.error = outcome.error.strip() or "The task failed without saying why."
        output = await self._renderer.output(task, task.origin)
        delivery = self._webhooks.delivery(task, output)
        event = Event(task.id, task.status)
        await self._store.save_task(task, event=event, delivery=delivery, links=links)
        vars(seen).update(vars(task))
        self._meter.finished(seen, seconds)
        self._webhooks.wake()
        if task.status is Status.COMPLETED and seconds > 0:
            await self._store.add_timing(task.app, "", work_size(task.input), seconds)
        await asyncio.to_thread(shutil.rmtree, self._jobs / task.id, True)

    async def _output(
        self, task: Task, outcome: Outcome
    ) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """The output's record, and links to its files, which are on the disk for good then."""
        app = self._catalog.find(task.app)
        output: dict[str, Any] = {}
        links, metas = [], []
        for name, path in outcome.files.items():
            await asyncio.to_thread(_sync, path)
            is_ours = self._jobs in path.resolve().parents
            file = await self._files.add_path(path, path.name, task.key_id, move=is_ours)
            output[name] = {"$file": file.id, "is_object": app.has_object_output}
            links.append((file.id, "output"))
            metas.append(_meta(file, outcome.facts))
        output["output_meta"] = {"inputs": [], "outputs": metas}
        return output, links


def _sync(path: Path) -> None:
    """Have it on the disk before anybody is told of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _meta(file: File, facts: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of output_meta."""
    known = {**file.metadata, **{k: v for k, v in facts.items() if v is not None}}
    width, height = known.get("width"), known.get("height")
    meta: dict[str, Any] = {"type": file.content_type.partition("/")[0]}
    if width and height:
        meta |= {
            "width": width,
            "height": height,
            "resolution_mp": round(width * height / 1e6, 3),
            "resolution": next((n for s, n in _NAMES if min(width, height) <= s), "4k"),
        }
    seconds = known.get("seconds") or known.get("duration")
    if seconds:
        meta["seconds"] = round(seconds, 3)
    if known.get("fps"):
        meta["fps"] = round(known["fps"])
    return meta
