"""The page at the service's own address: HTML, CSS and JavaScript as they are, without a build."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

_FOLDER = Path(__file__).parent
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data: http: https:; "
    "media-src 'self' blob: http: https:; connect-src 'self' http: https:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def page_routes(prefix: str) -> list[web.RouteDef]:
    """Routes of the page: itself, the parts it asks for, and the way to it without a last slash.

    Args:
        prefix: of the service, for example "/infsh".
    """
    parts = sorted(p for p in _FOLDER.iterdir() if p.suffix in _TYPES)
    routes = [web.get(f"{prefix}/{p.name}", _giver(p)) for p in parts]
    routes.append(web.get(f"{prefix}/", _giver(_FOLDER / "index.html")))

    async def to_the_page(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{prefix.rsplit('/', 1)[-1]}/")

    return [*routes, web.get(prefix, to_the_page)]


def _giver(path: Path):
    content, kind = path.read_bytes(), _TYPES[path.suffix]

    async def give(request: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=_HEADERS)

    return give
