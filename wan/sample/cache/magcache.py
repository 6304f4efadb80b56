"""MagCache: skip while the blocks' change, step after step, keeps its magnitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import InputError
from .plan import RunFacts, SkipPlan, weights_resolution

Ratios = tuple[Sequence[float], ...]
"""Per guidance branch: mean magnitude of a step's change against that of the step before."""

# Zehong-Ma/MagCache MagCache4Wan2.1/magcache_generate.py, Wan2.1-I2V-14B, one value for each of
# 40 steps; the first step has none before it.
RATIOS: dict[str, Ratios] = {
    "480p": (
        (  # conditional
            1.0, 0.98783, 0.97559, 0.98311, 0.98202, 0.9888, 0.98762, 0.98957, 0.99052, 0.99383,
            0.98857, 0.99065, 0.98845, 0.99057, 0.98957, 0.98601, 0.98823, 0.98756, 0.98808, 0.98721,
            0.98571, 0.98543, 0.98157, 0.98411, 0.97952, 0.98149, 0.9774, 0.97825, 0.97355, 0.97085,
            0.97056, 0.96588, 0.96113, 0.9567, 0.94961, 0.93973, 0.93217, 0.91878, 0.90955, 0.92617,
        ),
        (  # unconditional
            1.0, 0.98993, 0.97593, 0.98319, 0.98225, 0.98878, 0.98759, 0.98971, 0.99043, 0.99384,
            0.9886, 0.99068, 0.98847, 0.99057, 0.98961, 0.9861, 0.98823, 0.98759, 0.98814, 0.98724,
            0.98572, 0.98544, 0.98165, 0.98413, 0.97953, 0.9815, 0.97742, 0.97826, 0.97361, 0.97087,
            0.97055, 0.96587, 0.96124, 0.95681, 0.94969, 0.93988, 0.93224, 0.91896, 0.90954, 0.92616,
        ),
    ),
    "720p": (
        (  # conditional
            1.0, 0.99428, 0.98588, 0.98273, 0.99018, 0.98911, 0.98646, 0.99454, 0.9891, 0.99124,
            0.99102, 0.99215, 0.99515, 0.99576, 0.99068, 0.99097, 0.99166, 0.99041, 0.99201, 0.99101,
            0.98599, 0.98845, 0.98848, 0.98862, 0.98718, 0.98497, 0.98264, 0.98389, 0.97938, 0.97535,
            0.97498, 0.973, 0.96827, 0.96261, 0.95335, 0.94649, 0.93397, 0.91636, 0.89088, 0.8679,
        ),
        (  # unconditional
            1.0, 0.99498, 0.98621, 0.98281, 0.99023, 0.98917, 0.98652, 0.99456, 0.98909, 0.99127,
            0.99103, 0.99212, 0.99515, 0.99572, 0.99072, 0.99097, 0.99169, 0.99042, 0.99198, 0.99101,
            0.98603, 0.98844, 0.98851, 0.98857, 0.98719, 0.98497, 0.98263, 0.98393, 0.9794, 0.97536,
            0.97499, 0.97301, 0.96828, 0.96263, 0.9534, 0.94655, 0.93414, 0.9165, 0.89109, 0.86768,
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class MagCache:
    """Skip as far as an expected error allows.

    The tables were measured at 40 steps and say nothing of the larger strides of other step
    counts; with few steps, or weights distilled for few, they promise too much.

    Raises:
        InputError: a number is outside its range.
    Source: Zehong-Ma/MagCache (arXiv 2506.09045). The defaults are its E012K4R02, the more
    careful of the two settings it shows for Wan 2.1 I2V.
    """

    threshold: float = 0.12
    """Error, summed over the steps since the last computed one, from which a step is computed."""
    max_skips: int = 4
    """Most steps in a row that are skipped; 0 is off."""
    retention: float = 0.2
    """Share of the steps at the beginning that is always computed, 0..1."""
    ratios: str = "auto"
    """"480p", "720p", or "auto" by kind and name of the weights."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        for name, value, most in (
            ("threshold", self.threshold, math.inf),
            ("max_skips", self.max_skips, math.inf),
            ("retention", self.retention, 1),
        ):
            if not (math.isfinite(value) and 0 <= value <= most):
                raise InputError(
                    what=f"MagCache {name} is {value:g}.",
                    why="It must not be negative, and a share not above 1.",
                    fix=f"Use {getattr(MagCache, name):g}.",
                )

    @property
    def name(self) -> str:
        """As the user reads it."""
        return f"MagCache (at most {self.max_skips} in a row)"

    def plan(self, run: RunFacts) -> SkipPlan:
        """Plan from the published table of the weights; the model is not asked.

        Raises:
            InputError, ModelError: as `weights_resolution`.
        """
        resolution = weights_resolution(self.ratios, run.model_name, run.variant)
        return self.plan_from(RATIOS[resolution], len(run.timesteps), run.zeroed_steps)

    def plan_from(self, ratios: Ratios, steps: int, zeroed_steps: int = 0) -> SkipPlan:
        """Plan from known ratios.

        Both branches skip together, so a step is skipped only if each of them would. The last
        step is always computed, which the published code does not insist on.

        Args:
            ratios: per branch, one value for each step of the run they were measured in.
            steps: of this run.
            zeroed_steps: first steps that do not run the model.
        """
        fitted = [stretch_ratios(branch, steps) for branch in ratios]
        # The published code counts the forwards of both branches against this.
        kept = math.ceil(int(2 * steps * self.retention) / 2)
        first = max(kept, zeroed_steps + 1)
        flags = [step >= zeroed_steps for step in range(steps)]
        products, errors, skips = [1.0] * len(fitted), [0.0] * len(fitted), 0
        for step in range(first, steps - 1):
            products = [p * branch[step] for p, branch in zip(products, fitted, strict=True)]
            errors = [e + abs(1 - p) for e, p in zip(errors, products, strict=True)]
            skips += 1
            if max(errors) < self.threshold and skips <= self.max_skips:
                flags[step] = False
            else:
                products, errors, skips = [1.0] * len(fitted), [0.0] * len(fitted), 0
        remark = "" if not all(flags[zeroed_steps:]) else self._why_nothing(first, steps)
        return SkipPlan(self.name, tuple(flags), self.threshold, zeroed_steps, remark)

    def _why_nothing(self, first: int, steps: int) -> str:
        if first >= steps - 1:
            return f"with {steps} steps the first {first} and the last one are always computed"
        return "each step would be off by more than the threshold or the limit in a row allows"


def stretch_ratios(ratios: Sequence[float], steps: int) -> list[float]:
    """The table of a run of another length: of each step, the nearest measured one.

    Args:
        ratios: as measured, one per step.
        steps: 1 or more.
    Source: Zehong-Ma/MagCache, nearest_interp.
    """
    if steps == 1:
        return [ratios[-1]]
    stride = (len(ratios) - 1) / (steps - 1)
    return [ratios[round(step * stride)] for step in range(steps)]
