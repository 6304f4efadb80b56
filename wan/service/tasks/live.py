"""What is known of a task while it is under way."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from ..records import LogLine, Task


@dataclass
class LiveTask:
    """A task that has not ended, and who watches it."""

    task: Task
    is_submitted: bool = False
    """Whether the executor has it; `ended` will be called then."""
    began: float | None = None
    """When it left the queue, on the monotonic clock."""
    work: asyncio.Task | None = None
    """What happens before it is submitted: waiting for its time, fetching files."""
    preview: bytes = b""
    previews: int = 0
    logs: list[LogLine] = field(default_factory=list)
    """Not saved yet."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: set[asyncio.Event] = field(default_factory=set)

    @property
    def elapsed(self) -> float:
        """Seconds since it left the queue."""
        return 0.0 if self.began is None else time.monotonic() - self.began

    def changed(self) -> None:
        """Wake who watches."""
        for watcher in self.watchers:
            watcher.set()
