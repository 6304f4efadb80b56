"""Fetch a file of the catalog into a models folder: resumed where it broke off, checked, then moved."""

from __future__ import annotations

import errno
import hashlib
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, ModelError, OutputError, UnavailableError
from ..progress import Reporter, phase
from ..residency import gigabytes
from .catalog import CatalogFile

_STAGING = ".wan-download"
"""Folder beside the files, on the same disk, where downloads wait until they are whole."""
_SPARE = 500_000_000  # bytes that stay free on the disk
_CHUNK = 1 << 22
_DISK_ERRORS = (errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_SHA256_DIGITS = 64


class Remote(NamedTuple):
    """What the hub says of a file."""

    size: int
    """Bytes."""
    etag: str
    """Another one where the content is another."""
    location: str
    """Where the bytes are."""

    @property
    def sha256(self) -> str:
        """Of the content; empty for small files, of which the hub tells another sum."""
        is_sum = len(self.etag) == _SHA256_DIGITS and set(self.etag) <= set("0123456789abcdef")
        return self.etag if is_sum else ""


def ask_hub(file: CatalogFile, endpoint: str | None = None) -> Remote:
    """Size, checksum and place of a file, from the hub.

    Args:
        file: of the catalog.
        endpoint: another server than huggingface.co; for tests and mirrors.
    Raises:
        UnavailableError: offline mode is on, or the hub cannot be reached or has no such file.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise UnavailableError(
            what=f"'{file.name}' is not fetched: HF_HUB_OFFLINE is set.",
            why="It forbids all connections to Hugging Face.",
            fix=f"Unset it, or download {file.url} yourself into models/{file.folder}.",
        )
    try:
        url = huggingface_hub.hf_hub_url(file.repository, file.path, endpoint=endpoint)
        found = huggingface_hub.get_hf_file_metadata(url, token=False)
    except (*_network_errors(), ValueError) as error:
        raise _unreachable(file, error) from error
    return Remote(found.size or 0, found.etag or "unknown", found.location)


def download(
    file: CatalogFile, folder: Path, reporter: Reporter, endpoint: str | None = None
) -> Path:
    """Fetch a file, unless it is there.

    Args:
        file: of the catalog.
        folder: where files of its kind are; made if needed.
        reporter: told of the bytes; may cancel. What came so far is kept, and the next try goes
            on behind it.
        endpoint: see `ask_hub`.
    Returns:
        The file, which appears under its name only when it is whole.
    Raises:
        UnavailableError: see `ask_hub`; or the connection broke.
        OutputError: the disk has too little room, or cannot be written to.
        ModelError: what came has another checksum than the hub names.
    """
    target = folder / file.name
    if target.exists():
        return target
    remote = ask_hub(file, endpoint)
    staging = target.parent / _STAGING
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _expect_room(file, remote, staging)
        came = _fetch(file, remote, staging, reporter)
        _expect_sum(file, came, remote, reporter)
        came.replace(target)
        shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            what=f"'{target}' cannot be written ({error.strerror or error}).",
            why="The download goes there.",
            fix="Choose a folder that you may write, or free some space.",
        ) from error
    return target


def find_in_catalog(name: str, files: list[CatalogFile]) -> CatalogFile:
    """A file by its name.

    Raises:
        InputError: there is none of that name.
    """
    for file in files:
        if name in (file.name, file.name.rpartition("/")[2]):
            return file
    names = ", ".join(file.name for file in files)
    raise InputError(
        what=f"'{name}' is not in the catalog.",
        why=f"It knows: {names}.",
        fix="Give one of these names, or that of an app, for which all that is missing is fetched.",
    )


def _expect_room(file: CatalogFile, remote: Remote, staging: Path) -> None:
    begun = _begun(staging, remote)
    needed = remote.size - (begun.stat().st_size if begun.exists() else 0) + _SPARE
    free = shutil.disk_usage(staging.parent).free
    if free < needed:
        raise OutputError(
            what=f"'{file.name}' is {gigabytes(remote.size)}, and {gigabytes(free)} are free in "
            f"'{staging.parent}'.",
            why=f"{gigabytes(needed)} are needed, {gigabytes(_SPARE)} of which stay free.",
            fix="Free some space, or give a models folder on another disk.",
        )


def _begun(staging: Path, remote: Remote) -> Path:
    """Where a download waits; of another content elsewhere."""
    return staging / f"{hashlib.sha256(remote.etag.encode()).hexdigest()[:32]}.incomplete"


def _fetch(file: CatalogFile, remote: Remote, staging: Path, reporter: Reporter) -> Path:
    """The whole file in the staging folder. The hub's library does the talking; its own download
    begins anew after an interruption, so the file is ours."""
    from huggingface_hub.file_download import http_get

    staging.mkdir(exist_ok=True)
    path = _begun(staging, remote)
    with phase(reporter, "download", max(1, remote.size)), path.open("ab") as begun:
        here = begun.tell()
        options: dict[str, Any] = {"resume_size": here, "expected_size": remote.size}
        if "tqdm_class" in inspect.signature(http_get).parameters:  # not in older versions
            options["tqdm_class"] = _bar(reporter, file, remote.size)
        if here < remote.size:
            try:
                http_get(remote.location, begun, **options)
            except _network_errors() as error:
                if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                    raise
                raise _unreachable(file, error) from error
    return path


def _bar(reporter: Reporter, file: CatalogFile, size: int) -> type:
    """What the hub's library moves instead of its own progress bar."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)  # of the library's own class
            super().__init__(*arguments, **{**options, "disable": True})
            self.n = options.get("initial", 0)

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            reporter.status(f"{file.name}: {gigabytes(self.n)} of {gigabytes(size)}")
            reporter.update(int(self.n))  # raises if the user cancels

    return Bar


def _expect_sum(file: CatalogFile, came: Path, remote: Remote, reporter: Reporter) -> None:
    found = sha256_of(came, reporter.check_cancelled) if remote.sha256 else ""
    if found != remote.sha256:
        came.unlink()
        raise ModelError(
            what=f"'{file.name}' came with the checksum {found[:16]}..., and {file.repository} "
            f"names {remote.sha256[:16]}....",
            why="Bytes were changed on the way. The file was deleted.",
            fix="Download it again; if that does not help, from another network.",
        )


def sha256_of(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """The checksum of a file, 64 hexadecimal digits; `check` is called every 4 MB."""
    result = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            check()
            result.update(chunk)
    return result.hexdigest()


def _network_errors() -> tuple[type[Exception], ...]:
    """What the hub's library raises; it has changed what it is built on more than once."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*HfHubHTTPError.__bases__, OSError)  # type: ignore[return-value]


def _unreachable(file: CatalogFile, error: Exception) -> UnavailableError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UnavailableError(
        what=f"'{file.name}' could not be fetched from {file.repository}: {reason}",
        why="What came so far is kept, and the next try goes on behind it.",
        fix=f"Try again, or download {file.url} yourself into models/{file.folder}.",
    )
