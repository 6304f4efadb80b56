"""Clears the storage of what belongs to no job any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress

from .run import Run
from .storage import Storage, job_folder

log = logging.getLogger("wan_local")

_AGAIN_SECONDS = 3600.0
_KEEP_INPUTS = 86_400.0
"""Seconds that inputs stay which no job uses: they may come again."""


async def keep_swept(storage: Storage, runs: Mapping[str, Run], unsaved: Collection[str]) -> None:
    """`sweep` time and again."""
    while True:
        await sweep(storage, runs, unsaved)
        await asyncio.sleep(_AGAIN_SECONDS)


async def forget(storage: Storage, task_id: str) -> None:
    """Delete all of one job; if that fails, the next `sweep` tries again."""
    with suppress(Exception):
        await asyncio.to_thread(storage.delete, job_folder(task_id))


async def sweep(storage: Storage, runs: Mapping[str, Run], unsaved: Collection[str]) -> None:
    """Delete jobs that are not open, and old inputs.

    Args:
        storage: of this service alone.
        runs: open jobs by id.
        unsaved: ids of ended ones that are still needed.
    """
    try:
        for task_id in await asyncio.to_thread(storage.names, "jobs"):
            if task_id not in runs and task_id not in unsaved:
                await asyncio.to_thread(storage.delete, job_folder(task_id))
        used = [name for run in runs.values() for name in run.files]
        await asyncio.to_thread(storage.forget_inputs, used, _KEEP_INPUTS)
    except Exception as error:  # each kind of storage has errors of its own
        log.warning("Old files could not be deleted from the storage: %s", error)
