"""Who uses the weights of a module at the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, get_ident
from typing import NamedTuple

from ..deltas import Patches


class _User(NamedTuple):
    thread: int
    patches: Patches
    token: object


class Turns:
    """Lets threads that want the same weights of a module use it together; others wait.

    A thread never waits for itself: work inside work gets its own weights, and the outer work
    has its own again when the inner one ends.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._users: list[_User] = []

    @contextmanager
    def take(
        self, patches: Patches, prepare: Callable[[Patches], None], release: Callable[[], None]
    ) -> Iterator[None]:
        """Wait for a turn, and hold it for the length of the block.

        Args:
            patches: those wanted on the weights.
            prepare: readies the weights with these patches; called by one thread at a time.
            release: called when the last user has left.
        """
        user = _User(get_ident(), patches, object())
        with self._changed:
            self._changed.wait_for(lambda: self._may_enter(user))
            try:
                prepare(patches)
            except BaseException:
                if not self._users:
                    release()
                raise
            self._users.append(user)
        try:
            yield
        finally:
            with self._changed:
                # By identity, and by whichever thread: a generator may be closed by another one.
                self._users = [other for other in self._users if other.token is not user.token]
                self._changed.notify_all()
                if not self._users:
                    release()
                elif self._users[-1].patches != patches:
                    prepare(self._users[-1].patches)

    def if_idle(self, action: Callable[[], None]) -> None:
        """Do something while nobody uses the weights, or nothing if somebody does."""
        # Without waiting: two threads that make room for each other would wait for ever.
        if self._changed.acquire(blocking=False):
            try:
                if not self._users:
                    action()
            finally:
                self._changed.release()

    def _may_enter(self, user: _User) -> bool:
        return all(user.thread == o.thread or user.patches == o.patches for o in self._users)
