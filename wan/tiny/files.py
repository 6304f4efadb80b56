"""Where the miniatures are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..load.files import ModelFiles, find_files
from ..payloads import Variant
from .configs import FOLDERS


def default_folder() -> Path:
    """Where the miniatures are kept between runs: the user's cache folder.

    XDG_CACHE_HOME names another place for caches.
    """
    if os.environ.get("XDG_CACHE_HOME"):
        caches = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        caches = Path(os.environ["LOCALAPPDATA"])
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = Path.home() / ".cache"
    return caches / "wan_local" / "tiny"


def tiny_files(folder: Path, variant: Variant) -> ModelFiles:
    """The files of one miniature.

    Args:
        folder: where `ensure_tiny` put the set.
        variant: which of them.
    """
    return find_files(folder / "diffusers" / FOLDERS[variant])


def tiny_rife_folder(folder: Path) -> Path:
    """Where the tiny RIFE is.

    Args:
        folder: where `ensure_tiny` put the set.
    """
    return folder / "comfyui" / "frame_interpolation"
