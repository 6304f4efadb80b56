"""A rank that is not the first: does what it is called to, and tells how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import WanError
from ..progress import Reporter
from ..shortage import is_out_of_memory
from .seat import Call, Following, Seat
from .wire import allocate

if TYPE_CHECKING:
    from .group import Group


class Follower:
    """As `Ranks`.

    Args:
        group: the processes.
        tell: sends a message to rank 0, of a kind and with facts.
    """

    leads = False

    def __init__(self, group: Group, tell: Callable[..., None]) -> None:
        self.size = group.size
        self._group, self._tell = group, tell

    def receive(self, message: Mapping[str, Any]) -> list[Tensor]:
        """The tensors of a call."""
        self._group.use_device()
        tensors = allocate(message["tensors"])
        for tensor in tensors:
            self._group.spread(tensor)
        return tensors

    @contextmanager
    def together(self, call: Call, reporter: Reporter) -> Iterator[Seat]:
        """As `Ranks`."""
        yield Seat(self._group, Following(self._group), lambda: self._tell("ready"))
        self._group.hear()

    def close(self) -> None:
        """As `Ranks`."""
        self._group.leave()


def describe_failure(error: BaseException) -> dict[str, Any]:
    """What rank 0 is told of an error here."""
    from .group import is_lost_contact

    facts: dict[str, Any] = {
        "is_lost": is_lost_contact(error),
        "is_memory": is_out_of_memory(error),
        "text": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
    }
    if isinstance(error, WanError):
        facts["cure"] = [error.what, error.why, error.fix]
    return facts
