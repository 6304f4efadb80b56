"""What processes that others start share: JSON lines, and an end with the server."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1


class Channel:
    """Messages to the process that started this one, from any thread.

    It takes over the standard output: whatever libraries print goes to the standard error.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="ascii", newline="\n")
        self._lock = threading.Lock()
        os.dup2(2, 1)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message, one line of JSON."""
        text = json.dumps(message)
        with self._lock:
            self._out.write(text + "\n")
            self._out.flush()


def end_with_server() -> None:
    """End when the server does, even if this process is too busy to read that its input ended, and
    not before: what stops the server reaches its whole group or unit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
