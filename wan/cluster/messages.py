"""What the jobs of a worker say, kept until the server knows it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any


class Messages:
    """What jobs said, numbered; added in their thread, read in the loop."""

    def __init__(self) -> None:
        self._kept: list[dict[str, Any]] = []
        self._number = 0
        self._lock = threading.Lock()
        self._news = asyncio.Event()
        self._is_told = False
        """Whether the loop knows that there is something new."""
        self._answered = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def use(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop in which they are read."""
        self._loop = loop

    def keep_only(self, task_id: str) -> None:
        """Forget those of other jobs; numbers go on rising."""
        with self._lock:
            self._kept = [message for message in self._kept if message["task_id"] == task_id]

    def add(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Say one more. Of progress the newest alone is kept.

        Args:
            facts: task_id, and what else is to be said.
        """
        with self._lock:
            self._number += 1
            if kind == "progress" and self._kept and self._kept[-1]["kind"] == kind:
                self._kept.pop()
            self._kept.append({"number": self._number, "kind": kind, **facts})
            is_told, self._is_told = self._is_told, True
        if self._loop is not None and (not is_told or kind == "ended"):
            self._loop.call_soon_threadsafe(self._news.set)

    async def after(
        self, number: int, seconds: float, distance: float = 0.0
    ) -> list[dict[str, Any]]:
        """Those with higher numbers; waits for the first.

        Args:
            number: of the last one that is known.
            seconds: to wait at most.
            distance: seconds between two answers, unless a job has ended. Each answer costs the job
                that runs some of its time.
        """
        end = time.monotonic() + seconds
        while True:
            self._news.clear()
            with self._lock:
                found = [message for message in self._kept if message["number"] > number]
                self._is_told = bool(found)
            now = time.monotonic()
            until = self._answered + distance if found else end
            if until <= now or any(said["kind"] == "ended" for said in found):
                self._answered, self._is_told = now, False
                return found
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), until - now)
