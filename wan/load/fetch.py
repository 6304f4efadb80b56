"""Find the LoRA that a value names: a path, a name in the LoRA folders, or a URL to download."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from ..errors import InputError, MissingFileError, ModelError, UnavailableError
from ..progress import Reporter, Silent
from .lora.patch import SUFFIX, read_lora_header
from .web import OPEN_WEB, Answer, Web, check_url, open_url

ALLOW_DOWNLOADS = "WAN_LOCAL_ALLOW_DOWNLOADS"
"""Environment variable that switches downloads on when it is 1."""
MAX_BYTES = 4 * 1024**3
"""The largest LoRA that is downloaded."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SHOWN = 5


def downloads_allowed() -> bool:
    """Whether the user switched downloads on for this process."""
    return os.environ.get(ALLOW_DOWNLOADS) == "1"


def resolve_lora(
    value: str,
    search_folders: Sequence[Path],
    allow_download: bool = False,
    cache_folder: Path | None = None,
    *,
    only_folders: bool = False,
    reporter: Reporter | None = None,
    web: Web = OPEN_WEB,
) -> Path:
    """The file that `lora_file` names. Its content is checked by `apply_lora`.

    Args:
        value: a path, a name below one of the folders (with or without ".safetensors", slashes of
            either kind), or an https URL.
        search_folders: where names are looked up, first match wins.
        allow_download: whether a URL is fetched; see `downloads_allowed`.
        cache_folder: where downloads are kept, each URL once; None: the first search folder.
        only_folders: for values that come with a request: nothing outside the folders.
        reporter: follows and can cancel a download.
        web: for tests.
    Raises:
        MissingFileError: no such file; names those that are there.
        InputError: the value cannot be used, or leads outside the folders.
        UnavailableError: downloads are switched off, or the server cannot be reached.
        ModelError: what was downloaded is no LoRA.
    """
    value = value.strip()
    if not _URL.match(value):
        return _find_local(value, [Path(folder) for folder in search_folders], only_folders)
    folder = cache_folder or next(iter(search_folders), None)
    if not allow_download or folder is None:
        raise UnavailableError(
            what=f"lora_file is the URL '{value}', and downloads are switched off.",
            why="Nothing is fetched from the internet unless you ask for it.",
            fix=f"Download the file into your LoRA folder and give its name, or set "
            f"{ALLOW_DOWNLOADS}=1 in the environment and start again.",
        )
    return download_lora(value, Path(folder), reporter, web)


def download_lora(
    url: str, folder: Path, reporter: Reporter | None = None, web: Web = OPEN_WEB
) -> Path:
    """Fetch a LoRA once and keep it.

    Args:
        url: https; its path, or the name that the server gives the file, ends in .safetensors.
        folder: where it is kept, under a name that no other URL gets.
        reporter: told once per megabyte; may cancel, which leaves nothing behind.
        web: for tests.
    Raises:
        InputError: the URL is of another kind, points into a private network, to no LoRA or to
            more than 4 GiB.
        UnavailableError: the server cannot be reached, or gives no such file.
        ModelError: what came is no LoRA.
    """
    name = unquote(check_url(url, web).path.rpartition("/")[2])
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("._")[:80] or "lora"
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    target = folder / f"{stem}-{digest}{SUFFIX}"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with open_url(url, web) as answer:
        if not any(n.lower().endswith(SUFFIX) for n in (name, answer.file_name)):
            raise _unusable(url, f"Only {SUFFIX} files are fetched.", "Use the URL of such a file.")
        _save(answer, target, reporter or Silent())
    return target


def _save(answer: Answer, target: Path, reporter: Reporter) -> None:
    """Write and check a file beside its place, then move it there."""
    handle, raw = tempfile.mkstemp(SUFFIX, ".download-", target.parent)
    temporary = Path(raw)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in answer.read(MAX_BYTES, reporter, "download LoRA"):
                file.write(chunk)
        read_lora_header(temporary)
        temporary.chmod(0o644)  # mkstemp makes files that only their owner can read
        temporary.replace(target)
    except ModelError as error:
        raise ModelError(
            what=f"What '{answer.url}' gave is no LoRA that can be used: "
            + error.what.replace(temporary.name, target.name),
            why=error.why,
            fix="Check the URL in a browser; a page that asks for a login looks like this too.",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _find_local(value: str, folders: Sequence[Path], only_folders: bool) -> Path:
    # A value that was saved on Windows has backslashes; hardly a LoRA has one in its name.
    path = Path(value.replace("\\", "/"))
    if not path.name or "\0" in value:
        raise _unusable(value, "It names no file.", f"Give the name of a {SUFFIX} file.")
    if only_folders:
        _expect_inside(value, path, folders)
    candidates = [folder / path for folder in folders]  # an absolute path stays what it is
    if not only_folders:
        candidates.insert(0, path.expanduser() if path.parts[0] == "~" else path)
    for candidate in candidates:
        for found in (candidate, candidate.with_name(candidate.name + SUFFIX)):
            if _is_file(found):
                return found
    raise _not_found(value, folders)


def _expect_inside(value: str, path: Path, folders: Sequence[Path]) -> None:
    """By spelling alone: links that the owner of a folder put into it may lead where they like."""
    is_absolute = path.is_absolute() or bool(PureWindowsPath(value).drive)
    is_inside = not is_absolute or any(path.is_relative_to(folder) for folder in folders)
    if ".." in path.parts or not is_inside:
        raise _unusable(
            value,
            "A request may only name files in the LoRA folders.",
            "Put the file into a LoRA folder and give its name there.",
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system takes
        return False


def _not_found(value: str, folders: Sequence[Path]) -> MissingFileError:
    there = sorted(
        path.relative_to(folder).as_posix()
        for folder in folders
        for path in folder.rglob(f"*{SUFFIX}")
    )
    listed = ", ".join(there[:_SHOWN]) + (", ..." if len(there) > _SHOWN else "")
    places = ", ".join(f"'{folder}'" for folder in folders)
    why = f"It was looked for in {places}. There are: {listed or 'no LoRAs'}."
    return MissingFileError(
        what=f"The LoRA '{value}' is not there.",
        why=why if folders else "It was looked for as a path, for there is no LoRA folder.",
        fix="Check the name, or put the file there.",
    )


def _unusable(value: str, why: str, fix: str) -> InputError:
    return InputError(what=f"lora_file is {value!r}.", why=why, fix=fix)
