"""Texts of a request: what one may hold, and data URIs."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

MAX_TEXT = 100_000
"""Characters of one text; every answer about a task repeats its texts."""
FILE_TEXTS = {"lora_file"}
"""Texts that name a file, of the server's own or in the net."""
_DATA_URI = re.compile(r"data:([^,]*),(.*)", re.DOTALL)


def decoded(uri: str) -> bytes | None:
    """Bytes of a data URI; None if it is none or holds nothing."""
    parts = _DATA_URI.fullmatch(uri)
    if parts is None:
        return None
    try:
        data = unquote_to_bytes(parts[2])
        if parts[1].lower().endswith(";base64"):
            data = base64.b64decode(b"".join(data.split()), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return data or None


def text_problem(name: str, text: str) -> str | None:
    """What is wrong with a text, as the end of a sentence that begins with its name; None if nothing
    is."""
    if len(text) > MAX_TEXT:
        return f"has {len(text)} characters. At most {MAX_TEXT} are taken."
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        return "holds a null character or half a surrogate pair. Send it as valid Unicode text."
    if name in FILE_TEXTS and _is_path(text):
        return (
            f"is {text[:100]!r}. Paths on the server are never read: give the name of a file in its "
            "folder, upload the file, or give a URL."
        )
    return None


def _is_path(text: str) -> bool:
    """Whether it leaves the folder in which names are looked up."""
    text = text.strip()
    if text.lower().startswith(("http://", "https://")):
        return False
    parts = text.replace("\\", "/").split("/")
    return (len(parts) > 1 and parts[0] in ("", "~")) or ".." in parts or ":" in parts[0]
