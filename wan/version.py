"""Which version of the pack this is."""

from __future__ import annotations

import re
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def version() -> str:
    """The version in pyproject.toml, which every way of installing brings along; else "unknown"."""
    try:
        found = re.search(r'^version = "([^"]+)"', _PROJECT.read_text("utf8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else "unknown"
