"""Gets a file that a request named by its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from .files import FileStore
from .files.intake import check_size
from .guard import Guard
from .problems import ApiError
from .records import File
from .settings import Settings

REDIRECTS = 3
_SILENCE = 60.0
"""Seconds without a byte after which the other side is given up."""
_CHUNK = 1 << 18
_HEADERS = {
    "User-Agent": "ComfyUI-WanLocal",
    "Accept": "image/*, video/*, audio/*, */*;q=0.5",
    # What is packed for the way could unpack to any size.
    "Accept-Encoding": "identity",
}


async def fetch(
    url: str, file_store: FileStore, guard: Guard, settings: Settings, key_id: str = ""
) -> File:
    """Download a file and keep it like an upload.

    Args:
        url: http or https; at most 3 redirects are followed, each checked as `url` is.
        file_store: takes the bytes, looks what they are, caps them.
        guard: decides where connections may go.
        settings: `max_upload` bytes, `fetch_seconds` for everything together.
        key_id: whose file it becomes.
    Raises:
        ApiError: validation_error (refused address, no such file, unreachable, too slow),
            limit_exceeded (bytes, pixels), out_of_space. Nothing is kept then.
    """
    try:
        return await asyncio.wait_for(
            _fetch(url, file_store, guard, settings, key_id), settings.fetch_seconds
        )
    except asyncio.TimeoutError:
        raise _failed(url, f"it took more than {settings.fetch_seconds:g} seconds") from None
    except (aiohttp.ClientError, OSError):
        # The error's own text names addresses and ports of this network.
        raise _failed(url, "its server cannot be reached or does not speak HTTP") from None


async def _fetch(
    url: str, file_store: FileStore, guard: Guard, settings: Settings, key_id: str
) -> File:
    target = guard.parse(url)
    name = target.name
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    async with aiohttp.ClientSession(
        connector=guard.connector(),
        timeout=timeout,
        auto_decompress=False,  # or unpacking begins before the answer can be looked at
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as session:
        for _ in range(REDIRECTS + 1):
            async with session.get(target, headers=_HEADERS, allow_redirects=False) as answer:
                if answer.status in (301, 302, 303, 307, 308):
                    target = guard.parse(_next(url, target, answer))
                    continue
                _expect_file(url, answer, settings)
                return await file_store.add_stream(_chunks(url, answer), name, key_id)
    raise _failed(url, f"it was redirected more than {REDIRECTS} times")


def _next(url: str, target: URL, answer: aiohttp.ClientResponse) -> str:
    location = answer.headers.get("Location")
    if not location:
        raise _failed(url, f"the server answered {answer.status} without saying where to go")
    try:
        return str(target.join(URL(location)))
    except ValueError:
        raise _failed(url, "it was redirected to something that is no address") from None


def _expect_file(url: str, answer: aiohttp.ClientResponse, settings: Settings) -> None:
    if answer.status != 200:
        raise _failed(url, f"the server answered {answer.status} {answer.reason or ''}".rstrip())
    if answer.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise _failed(url, "the server sent it compressed although it was asked not to")
    check_size(answer.content_length or 0, settings)


async def _chunks(url: str, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            yield chunk
    except (aiohttp.ClientError, ConnectionError):
        raise _failed(url, "the connection broke before the whole file was there") from None


def _failed(url: str, why: str) -> ApiError:
    # Without its query, which may hold a token.
    shown = url.partition("?")[0][:200]
    return ApiError(
        "validation_error",
        f"'{shown}' could not be fetched: {why}. Check the address in a browser, or upload the "
        "file.",
    )
