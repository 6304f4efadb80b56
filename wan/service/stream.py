"""Tasks followed over HTTP: a JSON object in each line, or server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiohttp import web

_HEADERS = {
    # Whatever stands between must neither collect nor change what passes.
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}


async def send_stream(
    request: web.Request, states: AsyncIterator[Mapping[str, Any]]
) -> web.StreamResponse:
    """Send states as they come; the last one ends the answer.

    A client that asks for text/event-stream gets events, any other lines. What a client that went
    away would have got is lost; the task goes on.

    Raises:
        ApiError: of the first state, before anything is sent.
    """
    first = await anext(states)
    is_events = "text/event-stream" in request.headers.get("Accept", "")
    kind = "text/event-stream" if is_events else "application/x-ndjson"
    response = web.StreamResponse(headers=_HEADERS)
    response.content_type, response.charset = kind, "utf-8"
    try:
        await response.prepare(request)
        await response.write(_line(first, is_events))
        async for state in states:
            await response.write(_line(state, is_events))
        await response.write_eof()
    except ConnectionError:
        pass  # the client is gone
    finally:
        await states.aclose()  # type: ignore[attr-defined]
    return response


def _line(state: Mapping[str, Any], is_events: bool) -> bytes:
    # ASCII: clients split lines at characters that JSON may hold as they are.
    text = json.dumps(state, ensure_ascii=True, separators=(",", ":"))
    return (f"data: {text}\n\n" if is_events else f"{text}\n").encode("ascii")
