"""What users call their files, made safe to show; such names never become paths."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

_LONGEST = 200
_TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that turn the direction of writing: "gpj.exe" can be made to look like "exe.jpg"."""


def clean_name(name: str | None) -> str:
    """A file name without folders, control characters and line breaks, at most 200 characters.

    Args:
        name: what the user's side sent; slashes of both kinds separate folders.
    Returns:
        Empty if nothing is left.
    """
    last = (name or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = "".join(c for c in last if not _is_unsafe(c)).strip()
    if kept in (".", ".."):
        return ""
    if len(kept) > _LONGEST:
        stem, dot, suffix = kept.rpartition(".")
        is_suffix = bool(stem) and len(suffix) < 20
        kept = (
            f"{stem[: _LONGEST - len(suffix) - 1]}{dot}{suffix}" if is_suffix else kept[:_LONGEST]
        )
    return kept


def disposition(name: str, is_inline: bool) -> str:
    """Value of Content-Disposition for a cleaned name, RFC 6266."""
    kind = "inline" if is_inline else "attachment"
    plain = "".join(c if c.isascii() and c not in '"\\%' else "_" for c in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _is_unsafe(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING
