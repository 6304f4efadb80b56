"""Files: declare, upload, read, list, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from ..files import FileStore
from ..links import Links
from ..problems import ApiError
from ..records import File
from ..render import Renderer
from ..store import Store
from .base import KEY_ID, Door, Reply, list_query, origin_of

_CHUNK = 1 << 18
_MOST_AT_ONCE = 100


def file_routes(
    door: Door, store: Store, files: FileStore, links: Links, renderer: Renderer
) -> list[web.RouteDef]:
    """Routes of files."""

    async def found(request: web.Request) -> File:
        file_id = request.match_info["file_id"]
        file = await store.file(file_id)
        if file is None:
            raise ApiError("not_found", f"There is no file {file_id[:100]!r}.")
        return file

    async def declare(request: web.Request) -> Reply:
        """Declare files to upload."""
        wanted = _declarations(await door.body(request))
        made = [await files.declare(**one, key_id=request[KEY_ID]) for one in wanted]
        return Reply([renderer.file(file, origin_of(request)) for file in made], 201)

    async def upload(request: web.Request) -> web.Response:
        """Upload a declared file, once."""
        info = request.match_info
        links.check_upload(info["file_id"], info["expires"], info["signature"])
        chunks = request.content.iter_chunked(_CHUNK)
        await files.receive(await found(request), chunks, request.content_length)
        return web.Response()

    async def content(request: web.Request) -> web.StreamResponse:
        """The bytes of a file."""
        return files.respond(await found(request), request)

    async def get(request: web.Request) -> dict[str, Any]:
        """A file's record."""
        return renderer.file(await found(request), origin_of(request))

    async def delete(request: web.Request) -> Reply:
        """Delete a file."""
        file = await found(request)
        users = [t for t in await store.tasks_of(file.id) if not t.status.is_terminal]
        if users:
            raise ApiError("conflict", f"{file.id} is used by {users[0].id}, which has not ended.")
        await files.delete(file)
        return Reply(status=204)

    async def list_files(request: web.Request) -> dict[str, Any]:
        """List files."""
        page = await store.files(list_query(await door.body(request)))
        return page.as_json(lambda file: renderer.file(file, origin_of(request)))

    return [
        door.route("POST", "/files", declare),
        door.route("POST", "/files/list", list_files),
        door.route("GET", "/files/{file_id}", get),
        door.route("DELETE", "/files/{file_id}", delete),
        door.route("PUT", "/files/{file_id}/upload/{expires}/{signature}", upload, is_open=True),
        door.route("GET", "/files/{file_id}/content/{filename}", content, is_open=True),
        door.route("GET", "/files/{file_id}/content", content, is_open=True),
    ]


def _declarations(body: Any) -> list[dict[str, Any]]:
    """What is declared, with types checked. Raises: ApiError invalid_request."""
    wanted = body.get("files") if isinstance(body, Mapping) else None
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= _MOST_AT_ONCE:
        raise ApiError("invalid_request", f"files must be a list of 1 to {_MOST_AT_ONCE} objects.")
    kinds: dict[str, type] = {"filename": str, "content_type": str, "size": int}
    found = []
    for one in wanted:
        if not isinstance(one, Mapping):
            raise ApiError("invalid_request", "files must be a list of objects.")
        for name, kind in kinds.items():
            value = one.get(name)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise ApiError("invalid_request", f"{name} is {value!r:.100}.")
        found.append({name: one.get(name) for name in kinds})
    return found
