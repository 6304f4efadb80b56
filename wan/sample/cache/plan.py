"""Which steps of a run are computed and which repeat the change of the last computed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ...errors import InputError, ModelError, WanError
from ...payloads import Variant

RESOLUTIONS = ("480p", "720p")
"""The published tables: one for each size that Wan 2.1 I2V was trained at."""


@dataclass(frozen=True)
class RunFacts:
    """What is known before the first step."""

    transformer: nn.Module
    """On its device, LoRAs applied: they may touch the time embedding."""
    timesteps: Tensor
    """[steps] int64."""
    model_name: str
    """File or folder name of the weights."""
    variant: Variant
    """Kind of the weights."""
    zeroed_steps: int = 0
    """First steps that do not run the model (`Guidance.zero_init_steps`), fewer than all."""


@dataclass(frozen=True)
class SkipPlan:
    """One decision per step, shared by both guidance branches.

    Raises:
        WanError: the first step that runs the model, or the last one, is not computed.
    """

    method: str
    """As the user reads it, for example "TeaCache x2"."""
    compute: tuple[bool, ...]
    """One flag per step; False = skipped, or before the model runs at all."""
    threshold: float | None = None
    """Drift or error up to which steps are skipped."""
    zeroed_steps: int = 0
    """First steps that do not run the model."""
    remark: str = ""
    """Why nothing is skipped, where that is so."""

    def __post_init__(self) -> None:
        """Refuse plans that begin with a skip or leave the last step to the cache."""
        planned = self.compute[self.zeroed_steps :]
        if (
            any(self.compute[: self.zeroed_steps])
            or not planned
            or not (planned[0] and planned[-1])
        ):
            raise WanError(
                what=f"{self.method} planned {''.join(str(int(flag)) for flag in self.compute)} "
                f"with {self.zeroed_steps} steps of zero velocity (1 = computed).",
                why="The first step has nothing to repeat, and the last one finishes the details.",
                fix="Compute the first step that runs the model, and the last one.",
            )

    @property
    def computed(self) -> int:
        """Steps that are computed."""
        return sum(self.compute)

    @property
    def gain(self) -> float:
        """Expected speed-up of the denoising: steps that run the model per computed one."""
        return (len(self.compute) - self.zeroed_steps) / self.computed

    def is_reused(self, step: int) -> bool:
        """Whether a later step repeats this one's change: only then it is worth keeping."""
        following = self.compute[step + 1 : step + 2]
        return self.compute[step] and following == (False,)

    def describe(self) -> str:
        """One line for the user."""
        steps = len(self.compute) - self.zeroed_steps
        after = f" after {self.zeroed_steps} of zero velocity" if self.zeroed_steps else ""
        if self.computed == steps:
            line = f"{self.method}: all {steps} steps computed{after}"
            return f"{line}, nothing is skipped: {self.remark}" if self.remark else line
        limit = "" if self.threshold is None else f"threshold {self.threshold:g}, "
        return (
            f"{self.method}: {self.computed} of {steps} steps computed{after} "
            f"({limit}expected x{self.gain:.2f})"
        )


class CachePolicy(Protocol):
    """Decides what to skip from what is known before the first step, so that the loop neither
    decides nor waits for the device."""

    def plan(self, run: RunFacts) -> SkipPlan:
        """The decisions for one run."""
        ...


def compute_all(
    steps: int, zeroed_steps: int = 0, method: str = "No cache", remark: str = ""
) -> SkipPlan:
    """A plan that skips nothing.

    Args:
        steps: 1 or more.
        zeroed_steps: first steps that do not run the model.
        method, remark: as in `SkipPlan`.
    """
    flags = tuple(step >= zeroed_steps for step in range(steps))
    return SkipPlan(method, flags, zeroed_steps=zeroed_steps, remark=remark)


def weights_resolution(choice: str, model_name: str, variant: Variant) -> str:
    """The published table that fits the weights.

    Args:
        choice: "480p" or "720p" as they are; "auto" takes 720p for FLF2V weights and where the
            name says so, otherwise 480p.
        model_name: file or folder name of the weights.
        variant: kind of the weights.
    Returns:
        "480p" or "720p".
    Raises:
        InputError: another choice.
        ModelError: "auto" for weights that nobody has measured.
    """
    if choice in RESOLUTIONS:
        return choice
    if choice != "auto":
        raise InputError(
            what=f"The table for skipping steps is {choice!r}.",
            why="Tables were published for weights of two sizes.",
            fix=f"Use auto, {' or '.join(RESOLUTIONS)}.",
        )
    if variant not in (Variant.I2V, Variant.FLF2V):
        raise ModelError(
            what=f"No table for skipping steps is known for {model_name!r} ({variant.value}).",
            why="Tables were published for Wan 2.1 image to video only.",
            fix="Switch the cache off, or try 480p or 720p and judge the result.",
        )
    is_large = variant is Variant.FLF2V or "720p" in model_name.lower()
    return "720p" if is_large else "480p"
