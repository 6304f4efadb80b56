"""How the conditional and the unconditional prediction become one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance on velocities of equal shape, in float32.

    A scale of 1 gives the conditional prediction back; callers then skip the other branch.
    """
    return unconditional + scale * (conditional - unconditional)


def star_scale(conditional: Tensor, unconditional: Tensor) -> Tensor:
    """The factor that brings the unconditional prediction nearest to the conditional one.

    Args:
        conditional, unconditional: [batch, ...] velocities, not denoised pictures: there the
            factor is another one.
    Returns:
        [batch, 1, ...] float32; 0 where the unconditional prediction is 0.
    Source: arXiv 2503.18886 (CFG-Zero*), one factor per sample; the formula only.
    """
    shape = [-1] + [1] * (conditional.dim() - 1)
    conditional, unconditional = conditional.float().flatten(1), unconditional.float().flatten(1)
    product = (conditional * unconditional).sum(dim=1)
    square = unconditional.square().sum(dim=1) + 1e-8  # CFG-Zero*, the same guard against 0
    return (product / square).view(shape)


@dataclass(frozen=True)
class Guidance:
    """How strongly, and in which way, a run is guided.

    Raises:
        InputError: a step number is outside its range.
    """

    scale: float = 5.0
    """1 turns guidance off: one forward a step, no CFG*, and the negative prompt is ignored."""
    cfg_star: bool = True
    """Scale the unconditional prediction to fit the conditional one (CFG*)."""
    cfg_zero_step: int = 5
    """Last step of plain guidance before CFG* begins; -1 begins at step 0."""
    zero_init_steps: int = 0
    """How many first steps have a velocity of 0 and do not run the model, at any scale. The
    paper's `zero_steps` counts from 0: its k is k + 1 here."""

    def __post_init__(self) -> None:
        """Refuse step numbers that mean nothing."""
        for name, value, least in (
            ("cfg_zero_step", self.cfg_zero_step, -1),
            ("zero_init_steps", self.zero_init_steps, 0),
        ):
            if value < least:
                raise InputError(
                    what=f"{name} is {value}.",
                    why="Steps are counted from 0.",
                    fix=f"Use {least} or more.",
                )

    def check_steps(self, steps: int) -> None:
        """Refuse a run in which the model is never asked.

        Raises:
            InputError: all `steps` would have a velocity of 0.
        """
        if self.zero_init_steps >= steps:
            raise InputError(
                what=f"zero_init_steps is {self.zero_init_steps}, and there are {steps} steps.",
                why="The model would never run and the noise would stay as it is.",
                fix=f"Use {max(0, steps // 25)}, or more steps.",  # 4 %: CFG-Zero-star README
            )

    @property
    def is_guided(self) -> bool:
        """Whether the run needs a negative prompt at all."""
        return self.scale != 1

    def runs_model(self, step: int) -> bool:
        """Whether step `step`, from 0, needs a prediction; otherwise its velocity is 0.

        The solver is stepped all the same: it leaves the latents as they are.
        """
        return step >= self.zero_init_steps

    def needs_unconditional(self, step: int) -> bool:
        """Whether step `step` needs the prediction for the negative prompt."""
        return self.is_guided and self.runs_model(step)

    def uses_star(self, step: int) -> bool:
        """Whether step `step` is guided by CFG*."""
        return self.cfg_star and self.needs_unconditional(step) and step > self.cfg_zero_step

    def combine(self, step: int, conditional: Tensor, unconditional: Tensor | None) -> Tensor:
        """The velocity of step `step`.

        Args:
            step: from 0.
            conditional: [batch, ...], any precision.
            unconditional: the same shape; looked at only if `needs_unconditional(step)`.
        Returns:
            Shaped like `conditional`, float32.
        Raises:
            InputError: the unconditional prediction is needed and missing.
        """
        conditional = conditional.float()
        if not self.runs_model(step):
            return torch.zeros_like(conditional)
        if not self.is_guided:
            return conditional
        if unconditional is None:
            raise InputError(
                what=f"The guidance scale is {self.scale:g}, and nothing was predicted for a "
                "negative prompt.",
                why="Guidance moves away from the negative prompt.",
                fix="Encode a negative prompt, or use a guidance scale of 1.",
            )
        unconditional = unconditional.float()
        if self.uses_star(step):
            unconditional = star_scale(conditional, unconditional) * unconditional
        return guide(conditional, unconditional, self.scale)
