"""Writes a stream of bytes to a file, so that it is there whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import aiohttp

from ..problems import ApiError
from ..settings import Settings

_BLOCK = 1 << 20
"""Bytes gathered before a thread writes them."""


def check_space(folder: Path, coming: int, settings: Settings) -> None:
    """Refuse what would fill the disk. Asks the file system: call it in a thread.

    Args:
        coming: bytes to be written.
    Raises:
        ApiError: out_of_space.
    """
    free = shutil.disk_usage(folder).free
    if free - coming < settings.min_free:
        raise _out_of_space(f"{free} bytes are free, {settings.min_free} must stay free")


def check_size(size: int, settings: Settings) -> None:
    """Raises:
    ApiError: limit_exceeded.
    """
    if size > settings.max_upload:
        raise ApiError(
            "limit_exceeded",
            f"The file is larger than {settings.max_upload} bytes, the most that is taken. Make it "
            "shorter or smaller, or have the server's owner raise max_upload.",
        )


async def write_stream(
    part: Path, chunks: AsyncIterator[bytes], expected: int | None, settings: Settings
) -> int:
    """Write everything to `part` and on to the disk itself; nothing stays if that fails.

    Args:
        part: must not be there yet; lies on the disk where the file will be.
        chunks: of any length. Never more than a megabyte of them is held.
        expected: bytes that must come; None: any number up to the cap.
    Returns:
        Bytes written.
    Raises:
        ApiError: limit_exceeded, invalid_request (another number of bytes, or the connection
            broke), out_of_space, conflict (`part` is there).
    """
    try:
        file = await asyncio.to_thread(part.open, "xb")
    except FileExistsError:
        raise ApiError("conflict", "This file is being received already.") from None
    try:
        size, block = 0, bytearray()
        async for chunk in chunks:
            size += len(chunk)
            check_size(size, settings)
            if expected is not None and size > expected:
                raise _other_size(f"more than {expected}", expected)
            block += chunk
            if len(block) >= _BLOCK:
                await asyncio.to_thread(_write, file, bytes(block), part.parent, settings)
                block.clear()
        if expected is not None and size != expected:
            raise _other_size(str(size), expected)
        await asyncio.to_thread(_finish, file, bytes(block))
    except BaseException as error:
        _drop(file, part)
        raise _translated(error) from None
    return size


def place(part: Path, target: Path) -> None:
    """Give a complete file its name, for good even if the power fails. Blocks."""
    part.replace(target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write(file: BinaryIO, block: bytes, folder: Path, settings: Settings) -> None:
    check_space(folder, len(block), settings)
    file.write(block)


def _finish(file: BinaryIO, block: bytes) -> None:
    file.write(block)
    file.flush()
    os.fsync(file.fileno())
    file.close()


def _drop(file: BinaryIO, part: Path) -> None:
    with suppress(OSError):  # what is left in its buffer does not fit; it is not wanted either
        file.close()
    part.unlink(missing_ok=True)


def _translated(error: BaseException) -> BaseException:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _out_of_space("it is full")
    if isinstance(error, (ConnectionError, aiohttp.ClientError, asyncio.IncompleteReadError)):
        return ApiError(
            "invalid_request",
            "The connection broke before the whole file was there. Send it again.",
        )
    return error


def _out_of_space(why: str) -> ApiError:
    return ApiError(
        "out_of_space",
        f"The server's disk cannot take the file: {why}. Delete tasks or files, or have the "
        "server's owner make room.",
    )


def _other_size(came: str, expected: int) -> ApiError:
    return ApiError(
        "invalid_request",
        f"{expected} bytes were declared and {came} came. Send the whole file, or declare it again.",
    )
