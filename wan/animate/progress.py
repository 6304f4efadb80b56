"""One bar for a run of many clips, and a line that says where it is."""

from __future__ import annotations

from ..pace import Pace
from ..progress import Preview, Reporter

_UNITS = 1000
"""The bar's units in one pass through the transformer, so that shorter phases move it too."""
# Passes that the VAE's work is worth, about what it takes beside 20 steps at 720p.
_WEIGHTS = {"encode clip": 1.0, "decode": 1.0}
_SAMPLE = "sample"


class ClipProgress:
    """Shows the phases of all clips to a reporter as one phase.

    Args:
        reporter: who is told.
        clips: how many there are.
        steps: denoising steps of each.
        forwards: passes through the transformer in a step, 1 or 2.
    """

    def __init__(self, reporter: Reporter, clips: int, steps: int, forwards: int) -> None:
        self._reporter, self._clips, self._steps = reporter, clips, steps
        self._weights = {**_WEIGHTS, _SAMPLE: float(steps * forwards)}
        self._clip, self._finished = 0, 0.0
        self._phase, self._total = "", 1
        self._pace = Pace()
        self._total_units = round(clips * sum(self._weights.values()) * _UNITS)

    def open(self) -> None:
        """The run begins."""
        self._reporter.check_cancelled()
        self._reporter.start("animate", self._total_units)

    def begin(self, clip: int) -> None:
        """A clip begins; those before it are done, now or in an earlier run."""
        self._clip, self._finished, self._phase = clip, 0.0, ""
        self._reporter.update(self._units(0.0))

    def start(self, phase: str, total: int) -> None:
        """A phase of the clip begins where the one before it ended."""
        if phase != self._phase:  # else it begins again, with less memory
            self._finished += self._weights.get(self._phase, 0.0)
        self._phase, self._total = phase, max(1, total)
        self._pace.begin()
        self._reporter.status(self._line(0))

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Move the bar."""
        if self._phase == _SAMPLE:
            self._pace.finish(done)
        weight = self._weights.get(self._phase, 0.0)
        self._reporter.status(self._line(done))
        self._reporter.update(self._units(weight * done / self._total), preview)

    def check_cancelled(self) -> None:
        """Raise if the user asked to stop."""
        self._reporter.check_cancelled()

    def note(self, text: str) -> None:
        """One line the user should see."""
        self._reporter.note(text)

    def status(self, text: str) -> None:
        """What is happening now."""
        self._reporter.status(text)

    def _units(self, in_phase: float) -> int:
        in_clip = self._finished + in_phase
        return round((self._clip * sum(self._weights.values()) + in_clip) * _UNITS)

    def _line(self, done: int) -> str:
        where = f"clip {self._clip + 1} of {self._clips}"
        if self._phase != _SAMPLE:
            return f"{where}, {self._phase}"
        left = (self._clips - self._clip) * self._steps - done
        pace = self._pace.describe("step", left)
        return ", ".join(filter(None, (where, f"step {done} of {self._steps}", pace)))
