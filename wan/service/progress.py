"""One share for a whole job, made of phases that each count on their own."""

from __future__ import annotations

_WEIGHTS = {
    "read video": 2,
    "find the person": 4,
    "measure the pose": 6,
    "segment person": 8,
    "grow mask": 1,
    "block mask": 1,
    "encode prompt": 2,
    "encode image": 1,
    "encode reference": 1,
    "encode frames": 4,
    "sample": 80,
    "animate": 90,
    "decode": 12,
    "interpolate": 6,
    "resize": 3,
}
"""About what each phase takes of a whole, in the order in which they come."""
_ONLY = {
    "wan2-1-i2v": (
        "encode prompt",
        "encode image",
        "encode frames",
        "sample",
        "decode",
        "interpolate",
        "resize",
    ),
    "wan-2-2-animate-v2v": (
        "read video",
        "find the person",
        "measure the pose",
        "segment person",
        "grow mask",
        "block mask",
        "encode prompt",
        "encode image",
        "encode reference",
        "animate",
    ),
}
"""The phases an app may go through; one that is left out makes the share jump."""


class JobProgress:
    """Turns phases into a share that never falls.

    Args:
        app: name without namespace.
    """

    def __init__(self, app: str) -> None:
        self._phases = _ONLY.get(app, tuple(_WEIGHTS))
        self._whole = sum(_WEIGHTS[name] for name in self._phases)
        self._phase, self._total = "", 1
        self.share = 0.0
        """0..1 of the job."""

    def start(self, phase: str, total: int) -> None:
        """A phase begins."""
        self._phase, self._total = phase, max(1, total)
        self._reach(0.0)

    def update(self, done: int) -> None:
        """So many of the phase's items are done."""
        self._reach(min(1.0, done / self._total))

    def stage(self, done: int) -> str:
        """What is happening, in words: "sample 7/20"."""
        many = self._total > 10_000  # items that say nothing to a reader
        return self._phase if many else f"{self._phase} {done}/{self._total}"

    def _reach(self, part: float) -> None:
        if self._phase not in self._phases:
            return
        place = self._phases.index(self._phase)
        before = sum(_WEIGHTS[name] for name in self._phases[:place])
        share = (before + part * _WEIGHTS[self._phase]) / self._whole
        self.share = max(self.share, share)
