"""How all ranks go on together, or stop together, in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from ..errors import Cancelled
from ..progress import Preview, Reporter, Silent

if TYPE_CHECKING:
    from .group import Group

STOP, GO = 0, 1


@dataclass(frozen=True)
class Call:
    """What all ranks are to do."""

    kind: str
    """Which function is called."""
    facts: dict[str, Any]
    """As JSON: the model, and its arguments by `pack`."""
    tensors: Sequence[Tensor]
    """Those of the arguments."""


@dataclass(frozen=True)
class Seat:
    """A process's place in a run."""

    group: Group | None
    """None: it is alone."""
    reporter: Reporter
    """To be told, and asked, the same number of times on all ranks."""
    meet: Callable[[], None]
    """Waits until the models of all ranks are ready; comes before anything is asked."""


class Ranks(Protocol):
    """The processes that a placement's models compute with."""

    size: int
    """How many, this one included."""
    leads: bool
    """Whether this is rank 0, which runs the app; the others do what they are called to."""

    def together(self, call: Call, reporter: Reporter) -> AbstractContextManager[Seat]:
        """Do the same on all ranks, inside the block.

        Args:
            call: what the others are to do; on them it is ignored.
            reporter: of rank 0; the others are silent.
        """
        ...

    def close(self) -> None:
        """Part: rank 0 ends the others."""
        ...


class Leading:
    """Reports what rank 0 does. Before every block it decides for all whether they go on: a rank
    that stopped alone would leave the others waiting for it."""

    def __init__(self, inner: Reporter, group: Group) -> None:
        self._inner, self._group = inner, group
        self.has_stopped = False
        """Whether the others were told to stop."""

    def start(self, phase: str, total: int) -> None:
        """A phase begins."""
        with self._stopping():
            self._inner.start(phase, total)

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Items of the phase are done."""
        with self._stopping():
            self._inner.update(done, preview)

    def check_cancelled(self) -> None:
        """Raise on all ranks if the user asked to stop."""
        with self._stopping():
            self._inner.check_cancelled()
        self._group.tell(GO)

    def note(self, text: str) -> None:
        """A line for the user."""
        self._inner.note(text)

    def status(self, text: str) -> None:
        """What is happening now."""
        self._inner.status(text)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # The others are asking at their next check, or will: no rank is among the blocks now.
            self._group.tell(STOP)
            self.has_stopped = True
            raise


class Following(Silent):
    """Asks rank 0."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def check_cancelled(self) -> None:
        """Raise if rank 0 stops."""
        if self._group.hear() == STOP:
            raise Cancelled
