"""The files of a service: declared, received, found again, deleted."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from aiohttp import web

from ..problems import ApiError
from ..records import File, now
from ..settings import Settings
from ..sniff import UNKNOWN, suffix_of
from .inspect import inspect
from .intake import check_size, check_space, place, write_stream
from .names import clean_name
from .serve import file_response, missing

_BATCH = 500
"""Records that are asked for at once."""
_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,100}", re.ASCII)


class FileRecords(Protocol):
    """What of the store this room needs."""

    async def add_file(self, file: File) -> None:
        """Keep a new record."""
        ...

    async def save_file(self, file: File) -> None:
        """Keep a changed record."""
        ...

    async def some_files(self, file_ids: Iterable[str]) -> Mapping[str, File]:
        """Those records that are there, by id."""
        ...

    async def delete_file(self, file_id: str) -> None:
        """Forget it."""
        ...

    async def use_upload(self, file_id: str) -> bool:
        """Mark its link as used; False if it was, or if there is no such file."""
        ...


class FileStore:
    """Takes files in and keeps them.

    On disk a file is called by our id and the suffix of what its bytes are; what users call it is
    in its record alone.

    Args:
        folder: where received files lie; made if missing.
        store: holds the records.
        settings: sizes, pixels and free space.
        silence: seconds without a byte after which an upload is given up.
    """

    def __init__(
        self, folder: Path, store: FileRecords, settings: Settings, silence: float = 60.0
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self._store, self._settings = store, settings
        self._silence = silence
        self._arriving: set[str] = set()

    async def declare(
        self, *, filename: str | None, content_type: str | None, size: int | None, key_id: str
    ) -> File:
        """A record whose bytes are still to come, by the link that `Links.upload_url` makes.

        Args:
            filename: what the user calls it; None or empty: nothing.
            content_type: what the user believes it is; the bytes decide later.
            size: bytes; None: not known.
            key_id: whose it is.
        Raises:
            ApiError: invalid_request (negative size), limit_exceeded, out_of_space.
        """
        if size is not None and size < 0:
            raise ApiError("invalid_request", f"size is {size}. Give the number of bytes.")
        check_size(size or 0, self._settings)
        await asyncio.to_thread(check_space, self.folder, size or 0, self._settings)
        declared = (content_type or "").partition(";")[0].strip().lower()
        file = File(
            filename=clean_name(filename),
            content_type=declared if _TYPE.fullmatch(declared) else UNKNOWN,
            size=size,
            key_id=key_id,
            upload_expires=int(time.time()) + self._settings.upload_seconds,
        )
        await self._store.add_file(file)
        return file

    async def receive(
        self, file: File, chunks: AsyncIterator[bytes], length: int | None = None
    ) -> File:
        """Take the bytes of a declared file. Its link is used up then, unless this fails.

        Args:
            file: its record, whose link was checked.
            chunks: the body.
            length: the request's Content-Length, to refuse a wrong one at once.
        Returns:
            The complete record, saved.
        Raises:
            ApiError: conflict (used link), invalid_request (another size than declared, or cut),
                limit_exceeded (bytes or pixels), out_of_space.
        """
        check_size(length or 0, self._settings)
        if file.is_there or file.upload_expires is None:
            raise _used(file)
        if None not in (length, file.size) and length != file.size:
            raise ApiError(
                "invalid_request",
                f"{file.size} bytes were declared and {length} are announced. Declare the file "
                "again with POST /files.",
            )
        if not await self._store.use_upload(file.id):
            raise _used(file)
        with self._kept_from_sweeping(file.id):
            try:
                lively = _lively(chunks, self._silence)
                taken = await self._take(replace(file, upload_expires=None), lively, file.size)
            except BaseException:
                await asyncio.shield(self._store.save_file(file))  # the link may be used again
                raise
            await self._store.save_file(taken)
        return taken

    async def add_stream(
        self, chunks: AsyncIterator[bytes], filename: str = "", key_id: str = ""
    ) -> File:
        """A new file from bytes that come by and by, for example from another server.

        Raises:
            ApiError: limit_exceeded, out_of_space, invalid_request (the connection broke).
        """
        file = File(filename=clean_name(filename), content_type=UNKNOWN, key_id=key_id)
        with self._kept_from_sweeping(file.id):
            file = await self._take(file, chunks, None)
            await self._store.add_file(file)
        return file

    async def add_bytes(self, data: bytes, filename: str = "", key_id: str = "") -> File:
        """A new file from bytes that are there: data URIs and previews. Raises: `add_stream`."""
        return await self.add_stream(_once(data), filename, key_id)

    async def add_path(
        self, path: Path, filename: str = "", key_id: str = "", *, move: bool = False
    ) -> File:
        """A new file from a finished one on this disk, such as a result.

        Args:
            path: must hold something. Deleting the record deletes it.
            filename: what users see; empty: the name it has.
            move: whether it comes to the other files under our name; else it stays where it is.
        Raises:
            ApiError: not_found (missing or empty), limit_exceeded (pixels).
        """
        path = await asyncio.to_thread(path.resolve)
        file = File(clean_name(filename or path.name), UNKNOWN, key_id=key_id)
        if not path.is_file() or not path.stat().st_size:
            raise ApiError("not_found", f"The result {path.name!r} is missing or empty.")
        file.size = path.stat().st_size
        kind, facts = await asyncio.to_thread(inspect, path, self._settings.max_pixels)
        file.content_type, file.metadata, file.path = kind, facts, str(path)
        with self._kept_from_sweeping(file.id):
            if move:
                file.path = file.id + suffix_of(kind)
                await asyncio.to_thread(shutil.move, path, self.folder / file.path)
            await self._store.add_file(file)
        return file

    def path(self, file: File) -> Path:
        """Where its bytes are.

        Raises:
            ApiError: not_found; they are not there yet, or the recorded path does not lead where
                it says (a link was put in its place).
        """
        if not file.is_there:
            raise missing(file.id)
        path = self.folder / file.path  # an absolute one stays what it is
        real = path.resolve()
        if real != path or (not Path(file.path).is_absolute() and real.parent != self.folder):
            raise missing(file.id)
        return real

    def respond(self, file: File, request: web.Request) -> web.StreamResponse:
        """The answer to GET of its content; ranges and HEAD work.

        Raises:
            ApiError: not_found.
        """
        return file_response(file, self.path(file))

    async def delete(self, file: File) -> None:
        """Remove bytes and record; no matter if the bytes are gone."""
        if file.is_there:
            path = self.folder / file.path
            # By name, so that a link in its place is removed and not what it leads to.
            if path.parent.resolve() == path.parent:
                await asyncio.to_thread(path.unlink, missing_ok=True)
        await self._store.delete_file(file.id)

    async def sweep(self) -> int:
        """Remove what a killed server left half received. Call it at the start.

        Returns:
            How many files were removed.
        """
        removed = 0
        there = [(_id_of(path), path) for path in await asyncio.to_thread(self._listed)]
        for start in range(0, len(there), _BATCH):
            batch = there[start : start + _BATCH]
            known = await self._store.some_files(file_id for file_id, _ in batch)
            for file_id, path in batch:
                is_kept = file_id in known and known[file_id].path == path.name
                if not is_kept and file_id not in self._arriving:
                    await asyncio.to_thread(path.unlink, missing_ok=True)
                    removed += 1
        return removed

    def _listed(self) -> list[Path]:
        """What is called as this class calls files, complete or not."""
        return [p for p in self.folder.iterdir() if _id_of(p).startswith("file_") and p.is_file()]

    @contextmanager
    def _kept_from_sweeping(self, file_id: str) -> Iterator[None]:
        self._arriving.add(file_id)
        try:
            yield
        finally:
            self._arriving.discard(file_id)

    async def _take(self, file: File, chunks: AsyncIterator[bytes], expected: int | None) -> File:
        """Write, look what it is, give it its name; the record is the caller's to save."""
        part = self.folder / f".{file.id}.part"
        await asyncio.to_thread(check_space, self.folder, expected or 0, self._settings)
        size = await write_stream(part, chunks, expected, self._settings)
        try:
            kind, facts = await asyncio.to_thread(inspect, part, self._settings.max_pixels)
            name = file.id + suffix_of(kind)
            await asyncio.to_thread(place, part, self.folder / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        return replace(
            file, size=size, content_type=kind, metadata=facts, path=name, updated_at=now()
        )


def _id_of(path: Path) -> str:
    return path.name.lstrip(".").partition(".")[0]


async def _lively(chunks: AsyncIterator[bytes], silence: float) -> AsyncIterator[bytes]:
    """The chunks, as long as each comes in time; or stalled uploads would pile up."""
    chunks = aiter(chunks)
    while True:
        try:
            yield await asyncio.wait_for(anext(chunks), silence)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise ApiError(
                "invalid_request", f"Nothing came for {silence:g} seconds. Send the file again."
            ) from None


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _used(file: File) -> ApiError:
    return ApiError(
        "conflict",
        f"The upload link of {file.id} was used already. Declare the file again with POST /files.",
    )
