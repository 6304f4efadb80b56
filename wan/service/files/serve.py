"""Gives a file out in a way that cannot run as part of this site."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from ..problems import ApiError
from ..records import File
from ..sniff import UNKNOWN, media_kind, suffix_of
from .names import disposition


def file_response(file: File, path: Path) -> web.FileResponse:
    """The bytes, whole or the range that was asked for.

    Pictures, videos and sound are shown in the browser, everything else is saved; nothing is
    guessed from names, and nothing in it runs as a script.

    Raises:
        ApiError: not_found; the bytes are gone.
    """
    if not path.is_file():
        raise missing(file.id)
    is_inline = media_kind(file.content_type) is not None
    content_type = file.content_type if is_inline else UNKNOWN
    name = file.filename or f"file{suffix_of(file.content_type)}"
    return web.FileResponse(
        path,
        headers={
            "Content-Type": content_type,
            "Content-Disposition": disposition(name, is_inline),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox",
            # Private: the address is the only lock. Short: the file can be deleted.
            "Cache-Control": "private, max-age=3600, no-transform",
            "Referrer-Policy": "no-referrer",
        },
    )


def missing(file_id: str) -> ApiError:
    """The refusal for a file that is not there (yet), which no one may keep in a cache."""
    return ApiError(
        "not_found",
        f"There is no content of file {file_id}: it was not uploaded yet, or was deleted.",
        headers={"Cache-Control": "no-store"},
    )
