"""The end of a job as the storage has it, brought to the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..service.executor import Outcome
from ..service.statuses import Status
from .storage import Storage

log = logging.getLogger("wan_local")

_PAUSES = (0.0, 0.5, 2.0, 5.0)
"""Seconds before each try: a storage may be out of reach for a moment."""


async def collect(storage: Storage, task_id: str, folder: Path, said: Mapping[str, Any]) -> Outcome:
    """Fetch a job's files into its folder.

    Args:
        said: by the worker at the end; counts if nothing was claimed, because the worker could not
            write. May be empty.
    Returns:
        How it ended: what was claimed, whoever claimed it.
    """
    error: Exception | None = None
    for pause in _PAUSES:
        await asyncio.sleep(pause)
        try:
            return await asyncio.to_thread(_collect, storage, task_id, folder, said)
        except Exception as found:  # each kind of storage has errors of its own
            log.warning("The result of %s could not be fetched: %s", task_id, found)
            error = found
    return Outcome(Status.FAILED, error=f"The result could not be fetched: {error}")


async def is_ended(storage: Storage, task_id: str) -> bool:
    """Whether the end of a job was claimed, as far as the storage can be read."""
    try:
        return await asyncio.to_thread(storage.outcome, task_id) is not None
    except Exception:  # each kind of storage has errors of its own
        log.exception("The storage could not be read")
        return False


def _collect(storage: Storage, task_id: str, folder: Path, said: Mapping[str, Any]) -> Outcome:
    found = storage.outcome(task_id)
    if found is None and not said:
        raise FileNotFoundError("the outcome is gone")
    end = found or {**said, "files": {}}
    files = {}
    for output, name in end.get("files", {}).items():
        files[output] = folder / PurePosixPath(name).name
        storage.fetch(name, files[output])
    status = Status(end["status"])
    if found is None and status is Status.COMPLETED:
        return Outcome(Status.FAILED, error="The worker could not write its result.")
    return Outcome(status, files, end.get("facts", {}), end.get("error", ""))
