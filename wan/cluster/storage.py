"""The storage that server and workers share: a folder, or an object store through fsspec.

    inputs/<sha256>/<name>              files of requests, by content
    jobs/<task>/<attempt>/begun.json    an attempt was made
    jobs/<task>/<attempt>/clips/...     finished clips of a long job
    jobs/<task>/<attempt>/<result>
    jobs/<task>/outcome.json            how the job ended; made once, after the files it names

Whatever is seen under its name is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError, UnavailableError

_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2"}
"""Here a single put is atomic, and a move would be a copy."""
_BLOCK = 1 << 20
_OUTCOME, _BEGUN, _CLIPS = "outcome.json", "begun.json", "clips"


class Storage:
    """Files below one root, by relative names with slashes.

    Args:
        filesystem: of fsspec.
        root: a folder in it.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs, self._root = filesystem, root.rstrip("/")
        names = filesystem.protocol
        self._protocols = {names} if isinstance(names, str) else set(names)
        self.is_local = bool(self._protocols & {"file", "local"})
        """Whether it is a folder that every machine sees at the same place."""

    @classmethod
    def open(cls, url: str) -> Storage:
        """Open a storage.

        Args:
            url: a folder's path, or any URL of fsspec, for example s3://bucket/folder.
        Raises:
            InputError: the URL cannot be used.
            UnavailableError: what speaks its protocol is not installed.
        """
        from fsspec.core import url_to_fs

        try:
            filesystem, root = url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise UnavailableError(
                what=f"--storage {url} needs a package that is not installed ({error}).",
                why="Files go through fsspec, which has a package for each kind of storage.",
                fix="Install it on the server and on each node, for s3:// with: pip install s3fs",
            ) from error
        except ValueError as error:
            raise InputError(
                what=f"--storage {url} cannot be used ({error}).",
                why="Inputs and results travel through it.",
                fix="Give the path of a folder that all machines share, or s3://bucket/folder.",
            ) from error
        storage = cls(filesystem, root)
        if "memory" in storage._protocols:
            raise InputError(
                what=f"--storage {url} is the memory of one process.",
                why="Server and workers are several processes and must see the same files.",
                fix="Give the path of a folder that all machines share, or s3://bucket/folder.",
            )
        return storage

    def below(self, name: str) -> Storage:
        """The storage in one of its folders."""
        return Storage(self._fs, self._path(name))

    def check(self) -> None:
        """Try it. Raises: OutputError, it cannot be written."""
        name = f"probe-{secrets.token_hex(8)}"
        try:
            self.write(name, b"probe")
            same = self.read(name) == b"probe"
            self._fs.rm(self._path(name))
        except Exception as error:  # each kind of storage has errors of its own
            raise self._unwritable(str(error) or type(error).__name__) from error
        if not same:
            raise self._unwritable("what was written is not what is read")

    def _unwritable(self, reason: str) -> OutputError:
        return OutputError(
            what=f"The storage {self._root} cannot be written ({reason}).",
            why="Inputs and results of jobs travel through it.",
            fix="Let this user write there, or give another --storage.",
        )

    # Files

    def write(self, name: str, data: bytes) -> None:
        """Write a small file; it appears under its name as a whole."""
        target = self._path(name)
        self._make_parent(target)
        if self._is_object_store:
            self._fs.pipe_file(target, data)
            return
        partial = _partial(target)
        self._fs.pipe_file(partial, data)
        self._fs.mv(partial, target)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file that must not be there yet.

        Returns:
            Whether it was written; of several who try at once one alone is told so.
        """
        target = self._path(name)
        self._make_parent(target)
        if self.is_local:
            return _create_file(Path(target), data)
        try:
            self._fs.pipe_file(target, data, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file, or None if it is not there."""
        self._fs.invalidate_cache()
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def put(self, name: str, source: Path) -> None:
        """Copy a file here; it appears under its name as a whole."""
        target = self._path(name)
        self._make_parent(target)
        if self._is_object_store:
            self._fs.put_file(str(source), target)
            return
        partial = _partial(target)
        self._fs.put_file(str(source), partial)
        self._fs.mv(partial, target)

    def fetch(self, name: str, target: Path) -> None:
        """Copy a file from here; it appears under its name as a whole. Raises: OSError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            self._fs.get_file(self._path(name), str(partial))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def open_input(self, name: str, folder: Path) -> Path:
        """A file as a path on this machine: its own where it is a folder, else a copy in `folder`.
        Raises: OSError."""
        if self.is_local:
            path = Path(self._path(name))
            path.stat()
            return path
        target = folder / posixpath.basename(name)
        self.fetch(name, target)
        return target

    def names(self, folder: str) -> list[str]:
        """Names of everything directly in a folder, sorted."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._path(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        names = {posixpath.basename(str(path).rstrip("/")) for path in found}
        return sorted(name for name in names if name and not name.startswith("."))

    def delete(self, folder: str) -> None:
        """Delete a folder and what is in it, if it is there."""
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError):
            self._fs.rm(self._path(folder), recursive=True)

    # Inputs

    def put_input(self, path: Path) -> str:
        """Keep a file of a request, once however often it is given; its name here."""
        name = f"inputs/{_content_id(path)}/input{path.suffix}"
        if not self._exists(name):
            self.put(name, path)
        return name

    def forget_inputs(self, used: Iterable[str], seconds: float) -> None:
        """Delete inputs that are older and not used."""
        wanted = {name.split("/")[1] for name in used}
        for content in self.names("inputs"):
            folder = f"inputs/{content}"
            if content in wanted:
                continue
            ages = [self._age(f"{folder}/{name}") for name in self.names(folder)]
            if not ages or min(ages) > seconds:
                self.delete(folder)

    # Jobs

    def begin(self, task_id: str, record: Mapping[str, Any]) -> int:
        """Make the next attempt at a job; its number, from 1."""
        while True:
            attempt = max(self.attempts(task_id), default=0) + 1
            data = json.dumps(dict(record)).encode()
            if self.create(f"{job_folder(task_id)}/{attempt}/{_BEGUN}", data):
                return attempt

    def attempts(self, task_id: str) -> list[int]:
        """Numbers of all attempts."""
        return sorted(int(n) for n in self.names(job_folder(task_id)) if n.isdigit())

    def claim(self, task_id: str, outcome: Mapping[str, Any]) -> bool:
        """Say how a job ended. The files it names must be here.

        Returns:
            Whether it counts: a job ends once, and who comes second is told no.
        """
        data = json.dumps(dict(outcome)).encode()
        return self.create(f"{job_folder(task_id)}/{_OUTCOME}", data)

    def outcome(self, task_id: str) -> dict[str, Any] | None:
        """What was claimed, or None."""
        data = self.read(f"{job_folder(task_id)}/{_OUTCOME}")
        if data is None:
            return None
        try:
            return json.loads(data)
        except ValueError:  # still being written, where a file cannot be linked
            return None

    def clips_folder(self, task_id: str, attempt: int) -> str:
        """Where finished clips of an attempt are."""
        return f"{job_folder(task_id)}/{attempt}/{_CLIPS}"

    def walk(self, folder: str) -> list[str]:
        """Relative names of all files below a folder."""
        self._fs.invalidate_cache()
        base = self._path(folder)
        found = self._fs.find(base)
        names = [posixpath.relpath(str(path), base) for path in found]
        return sorted(name for name in names if not posixpath.basename(name).startswith("."))

    @property
    def _is_object_store(self) -> bool:
        return bool(self._protocols & _OBJECT_STORES)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _make_parent(self, path: str) -> None:
        if not self._is_object_store:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)

    def _exists(self, name: str) -> bool:
        self._fs.invalidate_cache()
        return self._fs.exists(self._path(name))

    def _age(self, name: str) -> float:
        """Seconds since it was written; 0 where that is not known."""
        try:
            return time.time() - self._fs.modified(self._path(name)).timestamp()
        except (NotImplementedError, OSError):
            return 0.0


def job_folder(task_id: str) -> str:
    """Where all of a job is."""
    return f"jobs/{task_id}"


def _partial(target: str) -> str:
    folder, name = posixpath.split(target)
    return f"{folder}/.{name}.{secrets.token_hex(4)}"


def _create_file(target: Path, data: bytes) -> bool:
    partial = Path(_partial(str(target)))
    partial.write_bytes(data)
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    except OSError:  # no links here: exclusive, but for a moment half written
        try:
            with target.open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _content_id(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
