"""How a run is sampled: what nodes, command line and service set."""

from __future__ import annotations

from dataclasses import dataclass, field

from .cache import CachePolicy
from .guidance import Guidance
from .rope import Riflex

AS_LOADED, IN_FP8 = LINEARS = ("as loaded", "fp8")
PLAIN_GUIDANCE = Guidance(cfg_star=False)


@dataclass(frozen=True)
class SampleOptions:
    """What most runs leave as it is."""

    riflex: Riflex | None = None
    """For videos longer than the model was trained on."""
    joint_pass: bool = False
    """Both guidance branches in one pass through the weights: the same result, and weights that
    are streamed in are streamed once a step. Costs one more copy of the activations."""
    attention: str = "sdpa"
    """"sdpa" or "sage"."""
    linears: str = AS_LOADED
    """ "as loaded", or "fp8": the blocks' linear layers multiply in float8 where the device can."""


PLAIN_OPTIONS = SampleOptions()


@dataclass(frozen=True)
class SampleSettings:
    """How a clip is sampled. What is left out is off."""

    steps: int = 30
    """Denoising steps, 1 or more."""
    guidance: Guidance = field(default=PLAIN_GUIDANCE)
    """Scale 1 runs one forward a step and ignores the negative prompt."""
    solver: str = "unipc"
    """"unipc" or "dpm++"."""
    shift: float = 5.0
    """Above 0."""
    seed: int = -1
    """-1 draws one."""
    cache: CachePolicy | None = None
    """Which steps to skip; None computes all."""
    options: SampleOptions = field(default=PLAIN_OPTIONS)
