"""A rank's process, as rank 0 sees it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import torch

log = logging.getLogger("wan_local")

_ROOT = Path(__file__).resolve().parents[2]
_LAST_WORDS = 5
_PATIENCE = 10.0
"""Seconds that a process which was killed may take to go."""

News = Callable[[int, dict[str, Any]], None]
"""Told a rank and its message."""


class RankProcess:
    """`python -m wan rank` on its device: JSON lines in, JSON lines out, anything on stderr.

    It ends when its input does, so that none is left behind by rank 0, however that ends.

    Args:
        rank: which one it is.
        ranks: how many there are.
        device: where it computes.
        port: of the store.
        news: told what it says, and {"kind": "exit"} with its code at the end; in another thread.
    """

    def __init__(self, rank: int, ranks: int, device: torch.device, port: int, news: News) -> None:
        self.rank, self.device = rank, device
        self._news = news
        self._said: deque[str] = deque(maxlen=_LAST_WORDS)
        command = [sys.executable, "-m", "wan", "rank", "--rank", str(rank), "--ranks", str(ranks)]
        self._process = subprocess.Popen(
            [*command, "--port", str(port), "--device", str(device)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf8",
            errors="replace",
            start_new_session=True,  # an interrupt is for rank 0, which stops the others
        )
        self._listener = Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()
        Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def last_words(self) -> str:
        """What it wrote on stderr at last."""
        return "\n".join(self._said)

    def send(self, message: Mapping[str, Any]) -> None:
        """Write a line; without effect if it has just died, which is told elsewhere."""
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def kill(self) -> None:
        """End it at once."""
        with suppress(OSError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        with suppress(OSError):
            self._process.stdin.close()

    def _read(self, lines: Any) -> None:
        for line in lines:
            with suppress(ValueError):  # half a line, if it was killed in it
                self._news(self.rank, json.loads(line))
        code = self._process.wait()
        self._listener.join(_PATIENCE)
        self._news(self.rank, {"kind": "exit", "code": code})

    def _listen(self, lines: Any) -> None:
        for line in lines:
            log.info("rank %d: %s", self.rank, line.rstrip())
            if line.strip():
                self._said.append(line.rstrip())
