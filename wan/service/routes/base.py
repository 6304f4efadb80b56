"""What all handlers share: keys, bodies, the envelope and refusals."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from ..keys import Keys
from ..problems import ApiError
from ..settings import Settings
from ..store.listing import ListQuery

log = logging.getLogger("wan_local")

Answer = Any
Handler = Callable[[web.Request], Awaitable[Answer]]
# aiohttp warns of plain texts from 3.14 on, and knows nothing else before.
KEY_ID: Any = web.RequestKey("key_id", str) if hasattr(web, "RequestKey") else "key_id"
_CHUNK = 1 << 16
_LONGEST_KEY = 255


@dataclass(frozen=True)
class Reply:
    """An answer with another status than 200, or with messages."""

    data: Any = None
    status: int = 200
    messages: list[dict[str, str]] = field(default_factory=list)


class Door:
    """Makes routes of handlers.

    A handler returns what the envelope holds, a `Reply`, or a response as it is.

    Args:
        settings: prefix and limits.
        keys: who may come in.
    """

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self.settings, self._keys = settings, keys
        self._streams: Counter[str] = Counter()

    def route(
        self, method: str, path: str, handler: Handler, *, is_open: bool = False
    ) -> web.RouteDef:
        """A route below the prefix.

        Args:
            is_open: whether it works without a key.
        """

        async def enter(request: web.Request) -> web.StreamResponse:
            try:
                if not is_open:
                    request[KEY_ID] = self._keys.check(request.headers.get("Authorization"))
                return _finished(await handler(request))
            except ApiError as error:
                return problem_response(error)
            except (web.HTTPException, ConnectionResetError):
                raise
            except Exception:
                log.exception("A request of the service failed: %s %s", method, path)
                text = "The server failed at this request; its log says why."
                return problem_response(ApiError("internal_error", text))

        enter.__doc__ = handler.__doc__
        return web.route(method, self.settings.prefix + path, enter)

    @contextmanager
    def open_stream(self, request: web.Request) -> Iterator[None]:
        """Count a stream as open. Raises: ApiError rate_limited, the key has too many."""
        key_id, most = request[KEY_ID], self.settings.max_streams
        if self._streams[key_id] >= most:
            raise ApiError(
                "rate_limited",
                f"{most} streams are open, the most for one key. Close some.",
                headers={"Retry-After": "10"},
            )
        self._streams[key_id] += 1
        try:
            yield
        finally:
            self._streams[key_id] -= 1

    async def body(self, request: web.Request) -> Any:
        """The JSON body; an empty one is None.

        Raises:
            ApiError: limit_exceeded before much of it is read, invalid_request.
        """
        most = self.settings.max_body
        if (request.content_length or 0) > most:
            raise _too_large(most)
        data = bytearray()
        async for chunk in request.content.iter_chunked(_CHUNK):
            data += chunk
            if len(data) > most:
                raise _too_large(most)
        if not data.strip():
            return None
        try:
            return json.loads(data)
        except RecursionError:
            raise ApiError("invalid_request", "The body is nested too deeply.") from None
        except ValueError as error:
            raise ApiError("invalid_request", f"The body is no JSON: {error}.") from None


def origin_of(request: web.Request) -> str:
    """Scheme and host as the caller spelled them."""
    return f"{request.scheme}://{request.host}"


def idempotency(request: web.Request, body: Any, route: str = "") -> tuple[str, str] | None:
    """The request's Idempotency-Key and a hash of what was asked for, or None.

    Args:
        route: tells apart what takes the same bodies.
    Raises:
        ApiError: invalid_request.
    """
    key = request.headers.get("Idempotency-Key", "").strip()
    if not key:
        return None
    if len(key) > _LONGEST_KEY:
        raise ApiError("invalid_request", f"Idempotency-Key is longer than {_LONGEST_KEY}.")
    text = route + json.dumps(body, sort_keys=True)
    return key, hashlib.sha256(text.encode()).hexdigest()


def list_query(body: Any) -> ListQuery:
    """The body of a list request. Raises: ApiError invalid_request."""
    body = {} if body is None else body
    if not isinstance(body, Mapping):
        raise ApiError("invalid_request", "The body must be a JSON object.")
    limit = body.get("limit") or 20
    filters, sort = body.get("filters") or [], body.get("sort") or []
    cursor, search = body.get("cursor") or "", body.get("search") or ""
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise ApiError("invalid_request", f"limit is {limit!r}. Use a whole number.")
    for name, found in (("filters", filters), ("sort", sort)):
        if not isinstance(found, list) or not all(isinstance(f, Mapping) for f in found):
            raise ApiError("invalid_request", f"{name} must be a list of objects.")
    if not isinstance(cursor, str) or not isinstance(search, str):
        raise ApiError("invalid_request", "cursor and search must be texts.")
    return ListQuery(cursor, limit, tuple(filters), tuple(sort), search)


def problem_response(error: ApiError) -> web.Response:
    """A refusal as an answer."""
    headers = dict(error.headers)
    if error.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return web.Response(
        text=json.dumps(error.as_json()),
        status=error.status,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **headers},
    )


def _finished(answer: Answer) -> web.StreamResponse:
    if isinstance(answer, web.StreamResponse):
        return answer
    reply = answer if isinstance(answer, Reply) else Reply(answer)
    if reply.status == 204:
        return web.Response(status=204)
    envelope = {
        "success": True,
        "status": reply.status,
        "data": reply.data,
        "messages": reply.messages,
    }
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.json_response(envelope, status=reply.status, headers=headers)


def _too_large(most: int) -> ApiError:
    return ApiError("limit_exceeded", f"The body is larger than {most} bytes.")
