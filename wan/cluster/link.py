"""The server's side of the driver: started, started again when it ended, and spoken with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import UnavailableError, WanError
from ..service.lines import LineProcess, exit_words
from .options import ClusterOptions

log = logging.getLogger("wan_local")

_NAME = "The driver of the cluster"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_CLOSE_SECONDS = 5.0

Hear = Callable[[Mapping[str, Any]], None]


class DriverLink:
    """Keeps a driver running.

    Args:
        options: of the service.
        hear: told of every message of the driver, and {"kind": "lost", "text"} when it ended.
    """

    def __init__(self, options: ClusterOptions, hear: Hear) -> None:
        self._options, self._hear = options, hear
        self._process: LineProcess | None = None
        self._loop: asyncio.Task[None] | None = None
        self._is_closing = False

    @property
    def pid(self) -> int | None:
        """Of the driver, if there is one."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Connect for the first time. Raises: WanError, the cluster cannot be used."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.create_task(self._keep(ready))
        await ready

    def send(self, message: Mapping[str, Any]) -> None:
        """Tell the driver; nothing happens while there is none."""
        if self._process is not None:
            self._process.send(message)

    async def close(self) -> None:
        """Have idle workers end, and the driver."""
        self._is_closing = True
        self.send({"close": True})
        if self._process is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), _CLOSE_SECONDS)
            self._process.kill()
        if self._loop is not None:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop

    async def _keep(self, ready: asyncio.Future[None]) -> None:
        pause = _FIRST_PAUSE
        while not self._is_closing:
            why, was_ready = await self._follow(ready)
            if not ready.done():
                ready.set_exception(why)
                return
            if self._is_closing:
                return
            if was_ready:
                pause = _FIRST_PAUSE
                log.warning("The connection to the cluster was lost: %s", why.what)
            self._hear({"kind": "lost", "text": why.what})
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _follow(self, ready: asyncio.Future[None]) -> tuple[WanError, bool]:
        """One driver from start to end: why it ended, and whether it was connected."""
        process = self._process = await LineProcess.begin(
            ["cluster-driver", self._options.as_text()], _NAME
        )
        why: WanError | None = None
        was_ready = False
        async for message in process.messages():
            if message["kind"] == "failed":
                why = UnavailableError(message["what"], message["why"], message["fix"])
            elif message["kind"] == "lost":
                why = _ended(message["text"])
            else:
                self._hear(message)
                if message["kind"] == "ready":
                    was_ready = True
                    if not ready.done():
                        ready.set_result(None)
        code = await process.wait()
        return why or _ended(f"The driver ended ({exit_words(code)})."), was_ready


def _ended(text: str) -> UnavailableError:
    return UnavailableError(
        what=text,
        why="It holds the connection to the cluster.",
        fix="Its own words are in the server's log; see whether the cluster runs: ray status",
    )
