"""TeaCache: skip while the time embedding, weighted by a fitted polynomial, has moved little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import InputError
from .plan import RunFacts, SkipPlan, compute_all, weights_resolution

# Highest power first. ali-vilab/TeaCache TeaCache4Wan2.1/teacache_generate.py, without ret_steps.
POLYNOMIALS = {
    "480p": (-302.331670, 223.948934, -52.5463970, 5.87348440, -0.201973289),
    "720p": (-114.36346466, 65.26524496, -18.82220707, 4.91518089, -0.23412683),
}
_HUNDREDTHS = range(1, 61)  # thresholds tried, 0.01 .. 0.60; behaviour of Wan2GP


@dataclass(frozen=True)
class TeaCache:
    """Skip as many steps as a wanted speed-up asks for.

    The decisions depend on the weights and the timesteps only, not on prompt or picture.

    Raises:
        InputError: the multiplier or the percentage is outside its range.
    Source: ali-vilab/TeaCache; the search for a threshold follows the behaviour of Wan2GP.
    """

    multiplier: float = 2.0
    """Wanted speed-up of the denoising; 0 is off, and 1 or less skips nothing worth mentioning."""
    start_percent: int = 0
    """0..100. The step at this percentage of the run and all before it are computed."""
    coefficients: str = "auto"
    """"480p", "720p", or "auto" by kind and name of the weights."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if not (math.isfinite(self.multiplier) and self.multiplier >= 0):
            raise InputError(
                what=f"tea_cache is {self.multiplier:g}.",
                why="It is the wanted speed-up.",
                fix="Use 0 to switch it off, or 1.5 to 2.5.",
            )
        if not 0 <= self.start_percent <= 100:
            raise InputError(
                what=f"tea_cache_start_step_perc is {self.start_percent}.",
                why="It is a percentage of the steps.",
                fix="Use 0 to 100; 20 leaves the first fifth alone.",
            )

    @property
    def name(self) -> str:
        """As the user reads it."""
        return f"TeaCache x{self.multiplier:g}" if self.multiplier else "TeaCache off"

    def plan(self, run: RunFacts) -> SkipPlan:
        """Measure the time embedding and plan; the one moment that waits for the device.

        Raises:
            InputError, ModelError: as `weights_resolution`.
        """
        if self.multiplier == 0:
            return compute_all(len(run.timesteps), run.zeroed_steps, self.name)
        resolution = weights_resolution(self.coefficients, run.model_name, run.variant)
        distances = embedding_distances(time_embeddings(run.transformer, run.timesteps))
        return self.plan_from(distances, resolution, run.zeroed_steps)

    def plan_from(
        self, distances: Sequence[float], resolution: str, zeroed_steps: int = 0
    ) -> SkipPlan:
        """Plan from known distances.

        Args:
            distances: of each step from the one before, for steps 1 .. steps-1.
            resolution: a key of `POLYNOMIALS`.
            zeroed_steps: first steps that do not run the model; they are no part of the search,
                and the speed-up is meant for the others.
        """
        steps = len(distances) + 1
        if self.multiplier == 0:
            return compute_all(steps, zeroed_steps, self.name)
        run = steps - zeroed_steps
        start = max(0, int(self.start_percent * steps / 100) - zeroed_steps)
        drifts = contributions(distances[zeroed_steps:], resolution)
        threshold, flags = search_threshold(drifts, int(run / self.multiplier), start)
        remark = "" if not all(flags) else self._why_nothing(run, start)
        return SkipPlan(self.name, (False,) * zeroed_steps + flags, threshold, zeroed_steps, remark)

    def _why_nothing(self, steps: int, start: int) -> str:
        if self.multiplier <= 1:
            return f"a speed-up of {self.multiplier:g} asks for none"
        if start >= steps - 2:
            return f"the steps up to {self.start_percent} % and the last one are always computed"
        return f"with {steps} steps neighbours differ too much to stand in for each other"


@torch.inference_mode()
def time_embeddings(transformer: nn.Module, timesteps: Tensor) -> Tensor:
    """What the transformer makes of the timesteps before projecting them for its blocks.

    Args:
        transformer: a diffusers Wan transformer on its device.
        timesteps: [steps] int64.
    Returns:
        [steps, dim] float32 on the transformer's device.
    """
    embedder = transformer.condition_embedder
    weight = next(embedder.time_embedder.parameters())
    waves = embedder.timesteps_proj(timesteps.to(weight.device))
    # Quantised weights of integer type take their input as it comes.
    waves = waves.to(weight.dtype) if weight.is_floating_point() else waves
    return embedder.time_embedder(waves).float()


def embedding_distances(embeddings: Tensor) -> list[float]:
    """Relative distance of each time embedding from the one before.

    Args:
        embeddings: [steps, dim].
    Returns:
        steps-1 values, for steps 1 .. steps-1.
    Source: ali-vilab/TeaCache, rel_l1.
    """
    moved = (embeddings[1:] - embeddings[:-1]).abs().mean(dim=1)
    return (moved / embeddings[:-1].abs().mean(dim=1)).tolist()


def contributions(distances: Sequence[float], resolution: str) -> list[float]:
    """How much each step adds to the drift: the polynomial of its distance, never negative.

    Args:
        distances: as `embedding_distances` gives them.
        resolution: a key of `POLYNOMIALS`.
    """
    # The polynomials dip below 0 at small distances; TeaCache itself lets the drift shrink there.
    return np.abs(np.polyval(POLYNOMIALS[resolution], distances)).tolist()


def computed_steps(drifts: Sequence[float], threshold: float, start: int = 0) -> tuple[bool, ...]:
    """Which steps are computed if the drift since the last computed one may reach `threshold`.

    Args:
        drifts: what each step adds, for steps 1 .. steps-1.
        threshold: a step at which the drift is smaller is skipped.
        start: this step and all before it are computed, as is the last one.
    Returns:
        One flag per step.
    """
    last = len(drifts)
    flags, drift = [], 0.0
    for step in range(last + 1):
        is_computed = step <= start or step == last
        if not is_computed:
            drift += drifts[step - 1]
            is_computed = not drift < threshold
        if is_computed:
            drift = 0.0
        flags.append(is_computed)
    return tuple(flags)


def search_threshold(
    drifts: Sequence[float], target: int, start: int = 0
) -> tuple[float, tuple[bool, ...]]:
    """The smallest threshold of 0.01, 0.02 .. 0.60 that comes nearest to a number of steps.

    A larger threshold never computes more steps, so the search ends where it gets worse.

    Args:
        drifts, start: as for `computed_steps`.
        target: wanted number of computed steps.
    Returns:
        (threshold, one flag per step).
    """
    best: tuple[float, tuple[bool, ...]] | None = None
    smallest = math.inf
    for hundredths in _HUNDREDTHS:
        threshold = hundredths / 100
        flags = computed_steps(drifts, threshold, start)
        difference = abs(target - sum(flags))
        if difference > smallest:
            break
        if difference < smallest:
            best, smallest = (threshold, flags), difference
    assert best is not None  # the first threshold is always better than none
    return best
