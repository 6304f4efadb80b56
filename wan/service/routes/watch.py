"""For those who run the service: its workers, and metrics for Prometheus."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..watch.cluster import Cluster
from ..watch.exposition import CONTENT_TYPE
from ..watch.metrics import Metrics
from .base import Door


def watch_routes(door: Door, cluster: Cluster, metrics: Metrics) -> list[web.RouteDef]:
    """Routes of workers and metrics. They need a key, as every route does."""

    async def view(request: web.Request) -> dict[str, Any]:
        """Workers and queue."""
        return await cluster.view()

    async def numbers(request: web.Request) -> web.Response:
        """Metrics for Prometheus."""
        headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"}
        return web.Response(body=(await metrics.text()).encode(), headers=headers)

    return [
        door.route("GET", "/cluster", view),
        door.route("GET", "/metrics", numbers),
    ]
