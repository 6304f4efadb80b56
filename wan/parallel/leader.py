"""Rank 0: starts the others, calls them, and ends them all if one fails."""

from __future__ import annotations

import atexit
import logging
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from ..errors import RankError
from ..progress import Reporter
from ..residency.offload import Offload
from ..shortage import is_out_of_memory
from .process import RankProcess
from .seat import GO, Call, Leading, Seat
from .wire import describe

if TYPE_CHECKING:
    from .group import Group

News = queue.SimpleQueue[tuple[int, dict[str, Any]]]
log = logging.getLogger("wan_local")

_POLL = 0.05
_REASONS = 10.0
"""Seconds to wait for what the others say after contact was lost."""


class Leader:
    """As `Ranks`. The others stay, with their models, from call to call.

    Args:
        devices: one for each rank, from `rank_devices`.
    """

    leads = True

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.size = len(devices)
        self._devices = tuple(devices)
        self._processes: list[RankProcess] = []
        self._group: Group | None = None
        self._store: Any = None
        self._news: News = queue.SimpleQueue()
        self._failures: dict[int, dict[str, Any]] = {}
        self._streamed: set[str] = set()
        self._lock = Lock()
        atexit.register(self.close)

    @property
    def pids(self) -> list[int]:
        """Of the other ranks that run, in their order."""
        return [process.pid for process in self._processes if process.is_alive]

    @contextmanager
    def together(self, call: Call, reporter: Reporter) -> Iterator[Seat]:
        """As `Ranks`.

        Raises:
            RankError: another rank failed; all others are ended then, and start anew with the
                next call.
            torch.OutOfMemoryError: another rank ran out of memory.
        """
        threads = torch.get_num_threads()
        with self._lock:
            leading = None
            try:
                group = self._joined(reporter)
                leading = Leading(reporter, group)
                self._share_threads(threads)
                self._send(call, threads)
                yield Seat(group, leading, lambda: self._wait("ready", reporter))
                group.tell(GO)
            except BaseException as error:
                if leading is not None and leading.has_stopped:
                    raise  # all ranks left the run together
                reason = self._reason(error)
                if is_out_of_memory(reason or error):
                    self._streamed.add(call.facts["transformer"])
                self.close()
                if reason is not None:
                    raise reason from error
                raise
            finally:
                torch.set_num_threads(threads)

    def start(self) -> None:
        """Start the other ranks, and do not wait for them: there is much to do before they are
        needed. The first call does it otherwise."""
        from .group import open_store

        self.close()
        self._store = open_store(self.size)
        self._processes = [
            RankProcess(rank, self.size, device, self._store.port, partial(self._hear, self._news))
            for rank, device in enumerate(self._devices)
            if rank
        ]

    def close(self) -> None:
        """End the other ranks."""
        self._news, self._failures = queue.SimpleQueue(), {}  # what they say of it is not heard
        for process in self._processes:
            process.kill()
        if self._group is not None:
            self._group.leave()
        self._processes, self._group, self._store = [], None, None

    def _joined(self, reporter: Reporter) -> Group:
        """The group, with all of its processes."""
        from .group import Group

        if not self._processes or not all(process.is_alive for process in self._processes):
            self.start()
        if self._group is None:
            devices = ", ".join(str(device) for device in self._devices)
            reporter.note(f"{self.size} ranks compute together: {devices}")
            self._wait("hello", reporter)
            self._group = Group(0, self.size, self._devices[0], self._store)
        self._group.use_device()
        return self._group

    def _share_threads(self, threads: int) -> None:
        """On the CPU all ranks together take as many threads as one process would."""
        if self._devices[0].type == "cpu":
            torch.set_num_threads(max(1, threads // self.size))

    def _send(self, call: Call, threads: int) -> None:
        assert self._group is not None
        message = {
            "kind": call.kind,
            **call.facts,
            "threads": max(1, threads // self.size),
            "tensors": describe(call.tensors),
        }
        if call.facts["transformer"] in self._streamed:
            message["offload"] = Offload.BLOCKS.value
        for process in self._processes:
            process.send(message)
        for tensor in call.tensors:
            self._group.spread(tensor)

    def _hear(self, news: News, rank: int, message: dict[str, Any]) -> None:
        """Of a thread that reads: keep a message; after a failure let nothing wait any longer."""
        news.put((rank, message))
        group = self._group
        if message["kind"] in ("failed", "exit") and group is not None and news is self._news:
            group.abort()

    def _wait(self, kind: str, reporter: Reporter) -> None:
        """Until all others have said something; raises LostContact if one fails instead."""
        from .group import LostContact

        missing = {process.rank for process in self._processes}
        while missing:
            reporter.check_cancelled()
            if not self._take(_POLL):
                continue
            rank, message = self._taken
            if message["kind"] == kind:
                missing.discard(rank)
            elif rank in self._failures:
                raise LostContact

    def _take(self, seconds: float) -> bool:
        """Wait for a message; keeps it, and each rank's first failure."""
        try:
            self._taken = self._news.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return False
        rank, message = self._taken
        if message["kind"] in ("failed", "exit"):
            self._failures.setdefault(rank, message)
        return True

    def _reason(self, error: BaseException) -> BaseException | None:
        """What another rank did to cause an error here; None: it is this rank's own."""
        from .group import is_lost_contact

        if not is_lost_contact(error):
            return None
        end = time.monotonic() + _REASONS
        while not any(_is_cause(message) for message in self._failures.values()):
            if not self._take(end - time.monotonic()):
                break
        for rank, message in self._failures.items():
            if _is_cause(message):
                return self._failure(rank, message)
        return RankError(
            what=f"The {self.size} ranks lost contact ({error}).",
            why="One video needs all of its ranks, and none of them said what happened.",
            fix="Run it again; if that does not help, with fewer ranks.",
        )

    def _failure(self, rank: int, message: dict[str, Any]) -> BaseException:
        who = f"Rank {rank} of {self.size} ({self._devices[rank]})"
        if message.get("is_memory"):
            return torch.OutOfMemoryError(f"{who}: {message['text']}")
        if "cure" in message:
            what, why, fix = message["cure"]
            return RankError(f"{who}: {what}", why, fix)
        if message["kind"] == "failed":
            return RankError(
                what=f"{who} failed: {message['text']}.",
                why="One video needs all of its ranks.",
                fix="Its log says more. Run it again, or on one rank.",
            )
        code = message["code"]
        words = next(p.last_words for p in self._processes if p.rank == rank)
        return RankError(
            what=f"{who} ended ({f'signal {-code}' if code < 0 else f'exit status {code}'}).",
            why=f"Its last words: {words}" if words else "It left no word.",
            fix="Run it again. Signal 9 is often the system's answer to a want of memory: then use "
            "fewer ranks, fewer frames or a smaller size.",
        )


def _is_cause(message: dict[str, Any]) -> bool:
    """Whether a rank failed by itself, and not because another one was gone."""
    return not message.get("is_lost", False)


def lead(devices: Sequence[torch.device]) -> Leader | None:
    """A leader of several ranks; None for one alone."""
    return Leader(devices) if len(devices) > 1 else None
