"""`python -m wan serve`: the hosted apps' API on this machine, without ComfyUI."""

from __future__ import annotations

import argparse
import asyncio
import errno
import ipaddress
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from aiohttp import web

from .cluster.command import add_cluster_options, check_cluster_options, cluster_options
from .engine import Engine, add_engine_options
from .errors import InputError
from .miniatures import adapted, find_miniature
from .params import APPS
from .service.catalog import Catalog, catalog_app
from .service.executor import Executor, Job
from .service.keys import Keys
from .service.service import Service
from .service.settings import Settings
from .service.worker import WorkerExecutor

DEFAULT_PORT = 8600
DEFAULT_DATA = Path.home() / ".local" / "share" / "wan_local" / "service"
_CLOSE_SECONDS = 2.0
_LAST_PORT = 65535


def add_serve(commands: argparse._SubParsersAction) -> None:
    """Add the commands `serve` and `worker`."""
    serve = commands.add_parser(
        "serve",
        help="answer the hosted apps' API on this machine",
        description="Answer the API of the hosted apps with your own weights, without ComfyUI. "
        "The key is WAN_LOCAL_API_KEY, or in the file that is named when it starts.",
    )
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default %(default)s)"
    )
    serve.add_argument("--port", type=_port, default=DEFAULT_PORT, help="default %(default)s")
    serve.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, metavar="DIR", help="default %(default)s"
    )
    add_cluster_options(serve)
    serve.set_defaults(command=_serve)
    # No help: they are for `serve` alone.
    worker = commands.add_parser("worker")
    worker.set_defaults(command=_work)
    driver = commands.add_parser("cluster-driver")
    driver.add_argument("options")
    driver.set_defaults(command=_drive)
    for parser in (serve, worker):
        add_engine_options(parser)


def _serve(options: argparse.Namespace) -> int:
    check_cluster_options(options)
    is_here = options.executor != "ray"  # a cluster's workers have the weights
    if is_here and find_miniature(options.models) is None and not Path(options.models).is_dir():
        raise InputError(
            what=f"--models {options.models} is no folder.",
            why="The weights are read from there.",
            fix="Give the folder of your weights, or mini to try it.",
        )
    if is_here:
        _expect_devices(options)
    data = options.data.resolve()
    try:
        held = _hold(data)
        keys = Keys.load(data)
    except OSError as error:
        raise InputError(
            what=f"--data {options.data} cannot be used ({error.strerror}).",
            why="Tasks, files and the key are kept there.",
            fix="Choose a folder that you may write.",
        ) from error
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    with held:
        return asyncio.run(_run(options, data, keys))


def _expect_devices(options: argparse.Namespace) -> None:
    """Refuse more ranks than can be, before the first task asks for them."""
    if options.ranks != 1:
        from .terminal import find_devices

        find_devices(options.device, options.ranks)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{port} is not from 0 to {_LAST_PORT}")
    return port


def _hold(data: Path) -> IO[bytes]:
    """Keep other servers from this data folder as long as the file is open: the second one would
    take the first one's tasks for what a dead server left, and end them.

    Raises:
        InputError: another server holds it.
        OSError: it cannot be written.
    """
    data.mkdir(parents=True, exist_ok=True)
    file = (data / "lock").open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise
        raise InputError(
            what=f"Another server uses {data}.",
            why="Two on one folder would end each other's tasks.",
            fix="Stop it, or give this one another --data.",
        ) from error
    return file


async def _run(options: argparse.Namespace, data: Path, keys: Keys) -> int:
    is_local = _is_loopback(options.host)
    settings = Settings(data, listens_on_loopback=is_local)
    apps = [adapted(options.models, app) for app in APPS.values()]
    executor = _make_executor(options, data)
    service = Service(settings, executor, Catalog([catalog_app(app) for app in apps]), keys)
    app = web.Application()
    app.router.add_routes(service.routes())
    runner = web.AppRunner(app, shutdown_timeout=_CLOSE_SECONDS)
    await runner.setup()
    try:
        await service.start()
        site = web.TCPSite(runner, options.host, options.port)
        await _listen(site, options)
        _tell(runner.addresses[0][1], options.host, settings, keys)
        await _until_stopped()
    finally:
        await service.close()
        await runner.cleanup()
    return 0


def _make_executor(options: argparse.Namespace, data: Path) -> Executor:
    engine, expect = Engine.of(options), None
    if find_miniature(engine.models) is None:
        engine = replace(engine, models=str(Path(engine.models).resolve()))
        expect = _expect_weights(engine.models)
    if options.executor != "ray":
        return WorkerExecutor(engine.arguments(), engine.device, expect=expect)
    from .cluster.executor import RayExecutor

    retries = 1 if options.retries is None else options.retries
    return RayExecutor(cluster_options(options, data, engine), options.workers, retries)


async def _listen(site: web.TCPSite, options: argparse.Namespace) -> None:
    try:
        await site.start()
    except OSError as error:
        raise InputError(
            what=f"{options.host}:{options.port} cannot be listened on ({error.strerror}).",
            why="Requests arrive there.",
            fix="Use another --port, or 0 for any that is free.",
        ) from error


def _expect_weights(models: str) -> Callable[[Job], None]:
    def expect(job: Job) -> None:
        from .terminal import find_weights

        find_weights(models, job.app.rpartition("/")[2])

    return expect


def _tell(port: int, host: str, settings: Settings, keys: Keys) -> None:
    name = f"[{host}]" if ":" in host else host
    where = f"in {keys.path}" if keys.path else "that of WAN_LOCAL_API_KEY"
    print(f"http://{name}:{port}{settings.prefix}\nThe API key is {where}", flush=True)
    if not settings.listens_on_loopback:
        print(
            "Other machines can reach this without TLS: keys and files travel in the open. Put a "
            "proxy with TLS before it.",
            file=sys.stderr,
        )


async def _until_stopped() -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows; there an interrupt arrives as an exception
            loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _work(options: argparse.Namespace) -> int:
    from .worker import run_worker

    return run_worker(Engine.of(options))


def _drive(options: argparse.Namespace) -> int:
    from .cluster.driver import run_driver

    return run_driver(options.options)
