"""A process of ours that is spoken with in JSON lines: the server's end of the pipe."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

log = logging.getLogger("wan_local")

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 1 << 24
"""Bytes of a line."""


class LineProcess:
    """A running `python -m wan ...`; made by `begin`.

    Args:
        process: with pipes for its input and output.
        name: what the log calls it.
    """

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process, self._name = process, name

    @classmethod
    async def begin(cls, arguments: Sequence[str], name: str) -> LineProcess:
        """Start a command of this pack.

        Args:
            arguments: what follows `python -m wan`.
            name: what the log calls it.
        Raises:
            OSError: it cannot be started.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "wan", *arguments),
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST,
            start_new_session=True,  # Ctrl-C is for the server: it says how its jobs end
        )
        return cls(process, name)

    @property
    def pid(self) -> int | None:
        """Its number while it lives."""
        return self._process.pid if self._process.returncode is None else None

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; to a process that has just died nothing happens."""
        if self.pid is not None:
            with suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, until it ends."""
        while line := await self._process.stdout.readline():
            try:
                yield json.loads(line)
            except ValueError:  # half of a line, which it was killed in
                log.warning("%s said %r", self._name, line[:200])

    async def wait(self) -> int:
        """Its exit status once it has ended, negative for a signal."""
        return await self._process.wait()

    def close_input(self) -> None:
        """Tell it to end: its input does."""
        with suppress(ConnectionError, RuntimeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                self._process.kill()


def exit_words(code: int) -> str:
    """An exit status as users read it."""
    return f"signal {-code}" if code < 0 else f"exit status {code}"
