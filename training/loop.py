"""What every training shares: time, learning rate, a smoothed copy, checkpoints, a log."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_FLOOR = 0.02  # of the learning rate, at the end
_LOOK_SECONDS = 90.0
_LONGEST_STEP = 120.0  # seconds; what takes longer was a machine asleep, not computing


@dataclass(frozen=True)
class Run:
    """How long, and where it is kept."""

    name: str
    folder: Path
    """For checkpoints and the log; a run goes on from what is there."""
    seconds: float = 60.0
    """Of computing in all, those before an interruption included."""
    max_steps: int = 1_000_000
    seed: int = 0
    device: str = "cpu"
    """That computes, as PyTorch names it; what is drawn and kept stays on the CPU."""
    compiled: bool = False
    """Let torch compile what is done most; needs a C++ compiler, and minutes before it pays."""


class Course:
    """One training on its way.

    Args:
        run: see there.
        model: what learns.
        learning_rate: its highest, after `warm_up` steps; falls as a cosine over the run's time.
        betas: of AdamW.
        warm_up: steps.
        decay: of the smoothed weights.
        weight_decay: of AdamW.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        learning_rate: float,
        betas: tuple[float, float],
        warm_up: int,
        decay: float,
        weight_decay: float = 0.0,
    ) -> None:
        self._run, self._model = run, model.to(run.device)
        self._rate, self._warm_up = learning_rate, warm_up
        trained = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(
            trained, learning_rate, betas=betas, weight_decay=weight_decay
        )
        self._decay, self._smooth = decay, copy.deepcopy(model)
        self.step, self._spent, self._looked = 0, 0.0, 0.0
        self._losses: list[float] = []
        run.folder.mkdir(parents=True, exist_ok=True)
        self._path = run.folder / f"{run.name}.pt"
        if self._path.is_file():
            self._restore()
        self._clock = time.monotonic()

    def steps(self) -> Iterator[float]:
        """One share 0..1 of the run's time per step, until it is over; then everything is kept."""
        while self.step < self._run.max_steps:
            self._count_time()
            progress = self._spent / self._run.seconds
            if progress >= 1:
                break
            cosine = _FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * progress)) / 2
            rate = self._rate * cosine * min(1.0, (self.step + 1) / self._warm_up)
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            yield progress
        self._keep()
        self.note("end", 1.0)

    def learn(self, loss: Tensor) -> None:
        """One step down the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        self._losses.append(float(loss.detach()))
        decay = min(self._decay, self.step / (self.step + 10))
        with torch.no_grad():
            for slow, fast in zip(self._smooth.parameters(), self._model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)

    def is_time_to_look(self) -> bool:
        """Every minute and a half: measure, and keep a checkpoint."""
        if self._spent - self._looked < _LOOK_SECONDS:
            return False
        self._looked = self._spent
        self._keep()
        return True

    def note(self, name: str, value: float) -> None:
        """A line of the log."""
        recent = self._losses[-100:]
        line = {
            "run": self._run.name,
            "seconds": round(self._spent),
            "step": self.step,
            "loss": round(sum(recent) / max(1, len(recent)), 5),
            name: round(value, 4),
        }
        with (self._run.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def smoothed(self) -> nn.Module:
        """The weights averaged over the last steps."""
        return self._smooth.eval()

    def _count_time(self) -> None:
        now = time.monotonic()
        self._spent += min(now - self._clock, _LONGEST_STEP)
        self._clock = now

    def _keep(self) -> None:
        state: dict[str, Any] = {
            "model": self._model.state_dict(),
            "smooth": self._smooth.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "spent": self._spent,
        }
        torch.save(state, self._path.with_suffix(".new"))
        self._path.with_suffix(".new").replace(self._path)

    def _restore(self) -> None:
        state = torch.load(self._path, self._run.device, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._smooth.load_state_dict(state["smooth"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step, self._spent = state["step"], state["spent"]
        self._looked = self._spent
