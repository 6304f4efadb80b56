"""The states of a task, by the numbers of the public SDK and by those of the apps' pages."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """State of a task, in the SDK's numbers (version 0.6.9 and newer)."""

    UNKNOWN = 0
    RECEIVED = 1
    QUEUED = 2
    DISPATCHED = 3
    PREPARING = 4
    SERVING = 5
    SETTING_UP = 6
    RUNNING = 7
    CANCELLING = 8
    UPLOADING = 9
    COMPLETED = 10
    FAILED = 11
    CANCELLED = 12

    @property
    def text(self) -> str:
        """As answers spell it, for example "setting_up"."""
        return self.name.lower()

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self >= Status.COMPLETED


ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)

WEBHOOK_NUMBERS = {Status.COMPLETED: 9, Status.FAILED: 10, Status.CANCELLED: 11}
"""How the apps' pages number the ends of a task; only webhooks speak them."""
