"""Keeps the headers of our answers as our handlers set them, and lets other pages' clients in."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# What ComfyUI's middleware replaces on every answer, or sets where it thinks of pictures.
_KEPT = ("Content-Security-Policy", "Cache-Control")
# Newer aiohttp warns of plain texts as keys, older has nothing else.
_MARK = getattr(web, "RequestKey", lambda name, _: name)("wan_local_headers", dict)
# Beside those that the host allows: what the SDKs send, and how a task is asked for only once.
_ALLOWED = "Content-Type, Authorization, X-Client-Source, Idempotency-Key, Range"
_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS"
_EXPOSED = "Content-Length, Content-Range, Accept-Ranges, Retry-After"


def remembered(handler: Handler) -> Handler:
    """A handler whose headers survive the middleware around it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            answer = await handler(request)
        except web.HTTPException as error:
            _remember(request, error)
            raise
        _remember(request, answer)
        return answer

    handle.__doc__ = handler.__doc__
    return handle


def finish(prefix: str, origin: str | None) -> Callable[..., Awaitable[None]]:
    """A handler of aiohttp's signal `on_response_prepare`, which comes after all middleware.

    Args:
        prefix: of our routes; others' answers are left alone.
        origin: whose pages may call the server; None: no other's.
    """
    prefixes = (f"{prefix}/", f"/api{prefix}/")

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        if not f"{request.path}/".startswith(prefixes):
            return
        for name in _KEPT:
            value = request.get(_MARK, {}).get(name)
            if value is not None:
                response.headers[name] = value
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        if _MARK in request and "Cache-Control" not in request[_MARK]:
            response.headers["Cache-Control"] = "no-store, no-transform"
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Allow-Headers"] = _ALLOWED
            response.headers["Access-Control-Allow-Methods"] = _METHODS
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    return prepare


def _remember(request: web.Request, response: web.StreamResponse) -> None:
    request[_MARK] = {n: response.headers[n] for n in _KEPT if n in response.headers}
