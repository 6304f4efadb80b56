"""Finished clips of a long job in the storage, so that another machine goes on behind them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from .storage import Storage

log = logging.getLogger("wan_local")


class StoredClips:
    """Copies the clips of an attempt up as they are finished, and those of earlier ones down.

    Clips are written on the worker's own disk first, also where the storage is a folder: an attempt
    that was given up for dead may still be writing, and must not write into the files of the next.

    Args:
        storage: of the service.
        task_id: whose clips.
        attempt: number of this attempt.
        note: told if a clip could not be kept.
    """

    def __init__(
        self, storage: Storage, task_id: str, attempt: int, note: Callable[[str], None]
    ) -> None:
        self._storage, self._task_id, self._attempt = storage, task_id, attempt
        self._note = note
        self._folder = Path()

    def restore(self, folder: Path) -> None:
        """Bring what earlier attempts finished. Raises: OSError."""
        self._folder = folder
        for attempt in self._storage.attempts(self._task_id):
            if attempt < self._attempt:
                earlier = self._storage.clips_folder(self._task_id, attempt)
                for name in self._storage.walk(earlier):
                    self._storage.fetch(f"{earlier}/{name}", folder / name)

    def saved(self, path: Path) -> None:
        """Copy a complete file up; the job goes on without if that fails."""
        name = path.relative_to(self._folder).as_posix()
        target = f"{self._storage.clips_folder(self._task_id, self._attempt)}/{name}"
        try:
            self._storage.put(target, path)
        except Exception as error:  # each kind of storage has errors of its own
            log.exception("A clip could not be kept")
            self._note(f"{path.name} could not be kept in the storage: {error}")
