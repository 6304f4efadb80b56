"""What a sampling run asks of the device, and what helps where that is too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from ..geometry import SPATIAL_STRIDE, TEMPORAL_STRIDE, LatentShape
from ..memory import transformer_bytes
from ..payloads import Variant, WanModel
from ..progress import Reporter
from ..shortage import Cure, fewer_weights, streamed, within_memory
from .settings import SampleSettings

T = TypeVar("T")

_ACTIVATION_BYTES = 2  # bf16 or fp16, as on every GPU


@dataclass(frozen=True)
class Workload:
    """One clip to be sampled."""

    model: WanModel
    shape: LatentShape
    """Of the latents."""
    settings: SampleSettings
    branches: int
    """Of guidance, 1 or 2."""

    @property
    def nbytes(self) -> int:
        """Activations of one forward, and what is kept beside it."""
        return self._bytes(self.shape)

    def describe(self) -> str:
        """The estimate for the user, before anything is loaded."""
        return self.model.transformer.describe_memory(self.nbytes)

    def within_memory(self, work: Callable[[], T], reporter: Reporter) -> T:
        """Do it; where memory runs out, once more with less. Of several ranks the first decides.

        Raises:
            OutOfVramError: it does not fit with streamed blocks either.
        """
        part = self.model.transformer
        ranks = part.placement.ranks
        if ranks is not None and not ranks.leads:
            return work()
        needs = lambda: self.nbytes  # noqa: E731
        return within_memory(work, part, needs, reporter, streamed(part), self.cures())

    def cures(self) -> Iterator[Cure]:
        """What the user could change, each with the memory that it saves."""
        yield from fewer_weights(self.model.transformer)
        shape = self.shape
        fewer = replace(shape, frames=max(2, shape.frames * 3 // 4))
        frames = (fewer.frames - 1) * TEMPORAL_STRIDE + 1
        name = "clip_len" if self.model.variant is Variant.ANIMATE else "num_frames"
        if self.model.variant is Variant.ANIMATE:
            frames -= TEMPORAL_STRIDE  # of the latent frames one is the reference picture's
        yield Cure(self.nbytes - self._bytes(fewer), f"set {name} to {max(5, frames)}")
        smaller = replace(shape, height=_smaller(shape.height), width=_smaller(shape.width))
        size = f"{smaller.width * SPATIAL_STRIDE}x{smaller.height * SPATIAL_STRIDE}"
        yield Cure(self.nbytes - self._bytes(smaller), f"make the video {size}")
        if self.settings.options.joint_pass and self.branches > 1:
            yield Cure(self._kept(1, shape), "set joint_pass to false")
        if self.settings.cache:
            yield Cure(self._kept(self.branches, shape), "leave out the step cache (tea_cache 0)")

    def _bytes(self, shape: LatentShape) -> int:
        """Of one rank, where several share the tokens."""
        ranks = self.model.transformer.placement.ranks
        return self._whole(shape) // (1 if ranks is None else ranks.size)

    def _whole(self, shape: LatentShape) -> int:
        config = self.model.config
        joint = self.branches - 1 if self.settings.options.joint_pass else 0
        kept = joint + (self.branches if self.settings.cache else 0)
        forward = transformer_bytes(shape, self._dim, config["ffn_dim"], _ACTIVATION_BYTES)
        return forward + self._kept(kept, shape)

    def _kept(self, states: int, shape: LatentShape) -> int:
        """Bytes of hidden states that are kept beside a forward."""
        return states * shape.tokens * self._dim * _ACTIVATION_BYTES

    @property
    def _dim(self) -> int:
        return self.model.config["num_attention_heads"] * self.model.config["attention_head_dim"]


def _smaller(side: int) -> int:
    """Seven tenths of a side, which is half the area, in latents that make whole tokens."""
    return max(2, side * 7 // 10 // 2 * 2)
