"""Puts the service into ComfyUI's server, if its owner wants it there."""

import asyncio
import logging

from .. import host_server
from .options import Options, is_on, read_options

log = logging.getLogger("wan_local")


def register() -> None:
    """Add the service's routes to ComfyUI's server.

    Called once while packs are loaded: the server does not listen yet, and other packs' nodes may
    still be missing, so that stored tasks are queued only when it starts. Nothing that goes wrong
    here may keep ComfyUI from its work.
    """
    if host_server.server() is None:
        return
    data = host_server.service_folder()
    is_local = host_server.listens_on_loopback()
    options = read_options(data.with_suffix(".json"))
    if not is_on(options, is_local, data):
        log.info("The local service is off: see WAN_LOCAL_SERVICE in the README.")
        return
    try:
        _add(options, is_local)
    except Exception:
        log.exception("The local service could not be set up")


def _add(options: Options, is_local: bool) -> None:
    from aiohttp import web

    from ...wan.miniatures import find_miniature
    from ...wan.service.keys import Keys
    from ...wan.service.service import Service
    from .apps import AppGraphs, is_slow
    from .catalog import make_catalog
    from .executor import ComfyExecutor
    from .headers import finish, remembered

    data = host_server.service_folder()
    settings = options.make_settings(data, is_local)
    graphs = AppGraphs(find_miniature(options.models))
    executor = ComfyExecutor(graphs.fill, is_slow)
    keys = Keys.load(data)
    service = Service(settings, executor, make_catalog(graphs), keys)
    host_server.add_routes(service.routes(), remembered)
    prepare = finish(settings.prefix, host_server.cors_origin())
    app = host_server.application()
    app.on_response_prepare.append(prepare)

    async def start(_: web.Application) -> None:
        try:
            # The first look reads every workflow; later ones only what has changed.
            await asyncio.to_thread(graphs.users)
            await service.start()
        except Exception:
            log.exception("The local service could not be started")
            return
        _tell(settings.prefix, keys, is_local)

    async def close(_: web.Application) -> None:
        await service.close()

    app.on_startup.append(start)
    app.on_cleanup.append(close)


def _tell(prefix: str, keys, is_local: bool) -> None:
    place = f"its key is in {keys.path}" if keys.path else "its key is that of the environment"
    log.info("The local service answers under %s; %s", prefix, place)
    if not is_local and not host_server.has_tls():
        log.warning(
            "ComfyUI can be reached from other machines without TLS: API keys and files travel in "
            "the open. Start it with --tls-keyfile and --tls-certfile, or put a proxy before it."
        )
