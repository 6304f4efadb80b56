"""Progress and cancellation as a plain protocol, so that no stage knows who is watching."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor

Preview = Callable[[], Tensor]
"""Makes the denoised latents of the moment, [1, 16, T, H/8, W/8] float32; called only if wanted."""


class Reporter(Protocol):
    """What a host implements to follow a run.

    Every loop over steps, frames or chunks calls `update` once per item, so a reporter
    that raises `Cancelled` (or the host's own interruption) there stops the run promptly.
    """

    def start(self, phase: str, total: int) -> None:
        """A phase begins; `total` is the number of updates that will follow."""
        ...

    def update(self, done: int, preview: Preview | None = None) -> None:
        """`done` of the phase's `total` items are finished. May raise to cancel."""
        ...

    def check_cancelled(self) -> None:
        """Raise if the user asked to stop. Cheap enough to call per transformer block."""
        ...

    def note(self, text: str) -> None:
        """One line the user should see (a drawn seed, a changed value, a warning)."""
        ...

    def status(self, text: str) -> None:
        """What is happening now, in place of what was said last; comes often."""
        ...


class Silent:
    """A reporter that nobody watches and nobody cancels."""

    def start(self, phase: str, total: int) -> None:
        """Ignore."""

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Ignore."""

    def check_cancelled(self) -> None:
        """Never cancels."""

    def note(self, text: str) -> None:
        """Ignore."""

    def status(self, text: str) -> None:
        """Ignore."""


@contextmanager
def phase(reporter: Reporter, name: str, total: int) -> Iterator[Callable[..., None]]:
    """Report one phase: yields `advance(preview=None)`, to be called after each item.

    Args:
        reporter: who is told.
        name: what the user reads, for example "sample".
        total: number of items.
    """
    reporter.check_cancelled()
    reporter.start(name, total)
    done = 0

    def advance(preview: Preview | None = None) -> None:
        nonlocal done
        done += 1
        reporter.update(done, preview)

    yield advance
