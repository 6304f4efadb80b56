"""What the transformer blocks added in the last computed step, for the steps that repeat it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import WanError


class ResidualCache:
    """Changes made by all blocks, one per guidance branch.

    Made inside a run and dropped with it, so that nothing of an interrupted run, another model
    or another size is ever repeated.

    Args:
        device: where changes wait; None leaves them where they were computed. A whole one is
            tokens x dim (335 MB a branch for 81 frames of 832x480 in bfloat16).
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """Begin empty."""
        self.device = device
        self._residuals: dict[int, Tensor] = {}

    def store(self, branch: int, before: Tensor, after: Tensor) -> None:
        """Keep the change of a computed step in place of an earlier one.

        Args:
            branch: 0 = conditional, 1 = unconditional.
            before: [1, tokens, dim], what entered the first block; must not have been written to.
            after: the same shape, what left the last one.
        """
        residual = after - before
        self._residuals[branch] = residual if self.device is None else residual.to(self.device)

    def apply(self, branch: int, before: Tensor) -> Tensor:
        """What the blocks would give if they changed their input as in the last computed step.

        Args:
            branch: 0 = conditional, 1 = unconditional.
            before: [1, tokens, dim], what would enter the first block; left as it is.
        Returns:
            The same shape, to be projected to latents.
        Raises:
            WanError: no step of this branch was stored in this run.
        """
        if branch not in self._residuals:
            raise WanError(
                what=f"A step was to be skipped before any was computed (branch {branch}).",
                why="A skipped step repeats the change of the last computed one.",
                fix="Store the change of each step that the plan reuses, or switch the cache off.",
            )
        return before + self._residuals[branch].to(before.device)
