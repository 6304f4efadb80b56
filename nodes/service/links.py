"""Puts uploads where ComfyUI's loaders can read them, under names of ours only."""

import os
import re
import shutil
import threading
from pathlib import Path

from .. import host_server

FOLDER = "infsh"
_OURS = re.compile(r"file_[0-9a-f]{32}(\.\w{1,8})?|task_[0-9a-f]{32}-\w+(\.\w{1,8})?")


class InputLinks:
    """Names in the input folder for the files of jobs; two jobs may use one file."""

    def __init__(self) -> None:
        self._users: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Remove what an earlier process left."""
        for path in self._folder().glob("*"):
            if _OURS.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def add(self, task_id: str, parameter: str, source: Path) -> str:
        """Make a file readable for loaders.

        Returns:
            Its name, as the loaders' drop-downs would spell it.
        """
        suffix = source.suffix if re.fullmatch(r"\.\w{1,8}", source.suffix) else ""
        name = source.name if _OURS.fullmatch(source.name) else f"{task_id}-{parameter}{suffix}"
        with self._lock:
            self._users.setdefault(name, set()).add(task_id)
            self._make(source, self._folder() / name)
        return f"{FOLDER}/{name}"

    def release(self, task_id: str) -> None:
        """The job needs its files no longer."""
        with self._lock:
            for name, users in list(self._users.items()):
                users.discard(task_id)
                if not users:
                    del self._users[name]
                    (self._folder() / name).unlink(missing_ok=True)

    @staticmethod
    def _make(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return
        try:
            os.link(source, target)
        except OSError:  # another disk, or one that knows no links
            partial = target.with_name(f"{target.name}.partial")
            shutil.copyfile(source, partial)
            partial.replace(target)

    @staticmethod
    def _folder() -> Path:
        return host_server.input_folder() / FOLDER
