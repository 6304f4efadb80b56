"""Parts of a long job's preprocessing and upsampling as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..progress import Reporter

log = logging.getLogger("wan_local")

_GPU_SHARE = 0.25
"""Of a GPU, for one part: these networks are small."""
_RETRIES = 2
"""Of a part whose process or machine died."""
_POLL_SECONDS = 0.1
_PATIENCE = 3.0
"""So many times as long as a part takes here, a result is waited for; then it is computed here."""
_LEAST_PATIENCE = 0.5
"""Seconds."""


@dataclass
class _Given:
    """A part under way."""

    values: tuple[Any, ...]
    reference: Any = None
    """Ray's promise of its result; None: it is done here."""
    result: Any = None
    is_done: bool = False


class RaySpread:
    """Does parts on whatever the cluster has free, and on this machine as well.

    A job must not wait for what other jobs hold: while parts are computed elsewhere, this process
    computes some too, and where nothing is free it computes all. Used inside a Ray worker.
    """

    def map(
        self,
        work: Callable[..., Any],
        parts: Iterable[tuple[Any, ...]],
        reporter: Reporter,
        device: str,
    ) -> Iterator[Any]:
        """Results in the order of the parts; see `wan.spread.Spread`.

        What a part raises is raised here.
        """
        import ray

        needs = {"num_cpus": 1, "num_gpus": _GPU_SHARE if device == "cuda" else 0}
        places = _free(needs)
        remote = ray.remote(max_retries=_RETRIES, scheduling_strategy="SPREAD", **needs)(work)
        run = _Run(work, remote, iter(parts), places, reporter)
        try:
            yield from run.results()
        finally:
            run.stop()


class _Run:
    """One call of `map`."""

    def __init__(
        self,
        work: Callable[..., Any],
        remote: Any,
        parts: Iterator[tuple[Any, ...]],
        places: int,
        reporter: Reporter,
    ) -> None:
        self._work, self._remote, self._parts = work, remote, parts
        self._places, self._reporter = places, reporter
        self._open: deque[_Given] = deque()
        self._silent = 0.0
        """Seconds without a result from elsewhere, while nothing was computed here."""
        self._longest = 0.0
        """Seconds of a part here."""

    def results(self) -> Iterator[Any]:
        """All, in order."""
        while True:
            self._send()
            self._collect(0)
            while self._open and self._open[0].is_done:
                yield self._open.popleft().result
                self._send()
            if not self._compute_one() and not self._open:
                return

    def stop(self) -> None:
        """Call back what is not needed any more."""
        import ray

        for given in self._waiting():
            ray.cancel(given.reference)

    def _waiting(self) -> list[_Given]:
        return [given for given in self._open if given.reference is not None and not given.is_done]

    def _send(self) -> None:
        """Have the next parts under way: one for each free place, and one that waits for it."""
        while self._places and len(self._waiting()) < 2 * self._places:
            values = next(self._parts, None)
            if values is None:
                return
            self._open.append(_Given(values, self._remote.remote(*values)))

    def _compute_one(self) -> bool:
        """Compute a part here, or wait a moment for the others.

        Returns:
            Whether there was anything to do.
        """
        self._reporter.check_cancelled()
        values = None
        if len(self._open) <= 4 * self._places:  # results ahead of a slow one take memory
            values = next(self._parts, None)
        if values is not None:
            given = _Given(values)
            self._open.append(given)
            self._compute(given)
            return True
        waiting = self._waiting()
        if not waiting:
            return False
        if self._collect(_POLL_SECONDS):
            self._silent = 0.0
        else:
            self._silent += _POLL_SECONDS
        if self._silent > max(_LEAST_PATIENCE, _PATIENCE * self._longest):
            self._take_back(waiting[0])
        return True

    def _collect(self, seconds: float) -> bool:
        """Take results that are there. Whether there were any."""
        import ray

        waiting = {given.reference: given for given in self._waiting()}
        if not waiting:
            return False
        done, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=seconds or 0)
        for reference in done:
            given = waiting[reference]
            try:
                self._finish(given, ray.get(reference))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None  # as if it had been computed here
            except ray.exceptions.RayError as error:
                log.warning("A part was lost and is computed here: %s", error)
                self._take_back(given)
        return bool(done)

    def _take_back(self, given: _Given) -> None:
        """Compute a part here that was sent away."""
        import ray

        ray.cancel(given.reference)
        given.reference = None
        self._compute(given)
        self._silent = 0.0

    def _compute(self, given: _Given) -> None:
        began = time.monotonic()
        self._finish(given, self._work(*given.values))
        self._longest = max(self._longest, time.monotonic() - began)

    def _finish(self, given: _Given, result: Any) -> None:
        given.result, given.is_done, given.values = result, True, ()
        given.reference = None


def _free(needs: dict[str, float]) -> int:
    """How many parts could run elsewhere now."""
    import ray

    free = ray.available_resources()
    counts = [
        int(free.get(name, 0.0) / needs[key])
        for name, key in (("CPU", "num_cpus"), ("GPU", "num_gpus"))
        if needs[key]
    ]
    return min(counts)
