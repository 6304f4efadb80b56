"""Which RIFE files are offered, and what a choice among them means."""

from pathlib import Path

from ..wan.errors import MissingFileError
from ..wan.tiny import default_folder, ensure_tiny, tiny_rife_folder
from ..wan.upsample.rife.load import (
    FOLDERS,
    PACK_FOLDER,
    PACK_NAMES,
    SUFFIXES,
    Rife,
    check_rife,
    find_rife,
    load_rife,
)
from . import host, host_memory

TINY = "tiny (random weights, for a try without a download)"
_KEY = "wan_rife"


def rife_choices() -> list[str]:
    """The options of the loader's drop-down: files that are called RIFE first, then others."""
    names = _listed()
    return [*sorted(names, key=lambda name: "rife" not in name.lower()), TINY]


def check_choice(name: str) -> None:
    """Find out whether a choice can be used; only names and shapes are read.

    Raises:
        MissingFileError: it is not there.
        ModelError: it is damaged, of an unknown version, or another model.
    """
    if name != TINY:
        check_rife(_path(name))


def load_choice(name: str) -> Rife:
    """The network that a choice stands for.

    Raises:
        MissingFileError, ModelError: as `check_choice`.
    """
    if name == TINY:
        path = find_rife([tiny_rife_folder(ensure_tiny(default_folder()))])
    else:
        path = _path(name)
    return load_rife(path, host_memory.placement())


def fingerprint(name: str) -> str:
    """Changes when the chosen file does."""
    if name == TINY:
        return name
    _listed()
    return host.fingerprint(host.model_path(_KEY, name))


def _listed() -> list[str]:
    packs = [pack / PACK_FOLDER for pack in host.pack_folders(PACK_NAMES)]
    host.own_folders(_KEY, set(FOLDERS), like=FOLDERS[0], more=packs)
    return [name for name in host.model_files(_KEY) if name.endswith(SUFFIXES)]


def _path(name: str) -> Path:
    _listed()
    path = host.model_path(_KEY, name)
    if path is None:
        raise MissingFileError(
            what=f"{name} is not in models/{FOLDERS[0]} or models/{FOLDERS[1]}.",
            why="Frames are interpolated with it.",
            fix="Put it there and press R, or choose another one in Wan RIFE Loader. "
            "rife_v4.26.safetensors is at https://huggingface.co/Comfy-Org/frame_interpolation.",
        )
    return path


_listed()
