"""The two official solvers: sigmas, timesteps and steps of the denoising equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..errors import InputError

SOLVERS = ("unipc", "dpm++")
_TRAIN_STEPS = 1000


def flow_sigmas(solver: str, steps: int, shift: float) -> np.ndarray:
    """Noise levels of a run, without the final 0.

    Args:
        solver: "unipc" starts just below 1, "dpm++" at 1.
        steps: 1 or more.
        shift: above 0; 1 leaves the levels evenly spaced.
    Returns:
        [steps] float64, falling.
    Source: Wan2.1 wan/utils/fm_solvers_unipc.py and fm_solvers.py.
    """
    # The first level of unipc is the float32 value of 1 - 1/1000, used in float64.
    start = float(np.float32(0.999)) if solver == "unipc" else 1.0
    levels = np.linspace(start, 0, steps + 1)[:-1]
    return shift * levels / (1 + (shift - 1) * levels)


class Solver:
    """One run of a solver.

    diffusers' schedulers compute the steps; the noise levels and timesteps are the official
    ones, with which they follow the official trajectories bit for bit.

    Args:
        name: "unipc" or "dpm++".
        steps: 1 or more.
        shift: above 0.
    Raises:
        InputError: any of them is outside its range.
    """

    def __init__(self, name: str, steps: int, shift: float) -> None:
        _check(name, steps, shift)
        self._scheduler = _scheduler(name)
        sigmas = flow_sigmas(name, steps, shift)
        self._scheduler.set_timesteps(steps)
        self._scheduler.timesteps = torch.from_numpy((sigmas * _TRAIN_STEPS).astype(np.int64))
        self._scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0).astype(np.float32))
        # Told outright where it begins, it need not search: rounded timesteps may repeat.
        self._scheduler.set_begin_index(0)

    @property
    def timesteps(self) -> Tensor:
        """[steps] int64, what the transformer is told."""
        return self._scheduler.timesteps

    @property
    def sigmas(self) -> Tensor:
        """[steps + 1] float32, the last one 0."""
        return self._scheduler.sigmas

    def step(self, velocity: Tensor, index: int, latents: Tensor) -> Tensor:
        """Latents after step `index`; steps must be taken in order.

        Args:
            velocity: the prediction, shaped like `latents`, float32.
            index: 0 .. steps-1.
            latents: float32.
        """
        with _UncheckedSolve():
            given = velocity, self.timesteps[index], latents
            return self._scheduler.step(*given, return_dict=False)[0]


class _UncheckedSolve(TorchFunctionMode):
    """UniPC's systems of two equations without the check of the result, for which a GPU's host
    would have to wait for all that was asked of the device before. They are never singular: noise
    levels differ."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is torch.linalg.solve:
            return torch.linalg.solve_ex(*args, **(kwargs or {}))[0]
        return function(*args, **(kwargs or {}))


def _check(name: str, steps: int, shift: float) -> None:
    if name not in SOLVERS:
        raise InputError(
            what=f"sample_solver is {name!r}.",
            why="Only the solvers that the models were published with are offered.",
            fix=f"Use one of: {', '.join(SOLVERS)}.",
        )
    if steps < 1:
        raise InputError(
            what=f"The number of steps is {steps}.",
            why="Noise becomes a video in steps.",
            fix="Use 1 or more; 30 is usual.",
        )
    if shift <= 0:
        raise InputError(
            what=f"shift is {shift:g}.",
            why="At 0 and below every noise level is 0, and nothing would be denoised.",
            fix="Use 3 for 480p weights, 5 for 720p weights.",
        )


def _scheduler(name: str) -> Any:
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    common = {
        "num_train_timesteps": _TRAIN_STEPS,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "solver_order": 2,
        "lower_order_final": True,
    }
    if name == "unipc":
        return UniPCMultistepScheduler(**common, solver_type="bh2")
    return DPMSolverMultistepScheduler(
        **common, algorithm_type="dpmsolver++", solver_type="midpoint", euler_at_final=False
    )
