"""What the cross-attention looks at: one embedding a run, and keys that are kept where small."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..geometry import TEXT_TOKENS
from .block import CrossKeys, cross_keys
from .face import FaceKeys

_MOST_BYTES = 64 << 20
"""Keys of all blocks and branches together that are kept. A 14B model would take 0.6 GB a branch,
to save 0.2 % of the time; a small one saves much with little."""


@dataclass(frozen=True)
class Branch:
    """What one prediction is conditioned on, embedded once for all steps."""

    context: Tensor
    """[1, image tokens + 512, dim] in the transformer's precision: images first, then text."""
    faces: tuple[FaceKeys, ...] = ()
    """One per face adapter of an Animate transformer; none on the others."""
    padding: int = 0
    """How many of the last tokens are alike, see `count_padding`."""


class KeyMemory:
    """Keys and values of the cross-attention, which are the same in every step of a run.

    Args:
        most_bytes: what may be kept; more is computed anew in every step.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: dict[tuple[int, int], CrossKeys] = {}

    def of(
        self, transformer: nn.Module, number: int, block: int, attn: nn.Module, branch: Branch
    ) -> CrossKeys:
        """Those of one block for one branch.

        Args:
            transformer: whose block it is.
            number: of the branch: 0 conditional, 1 unconditional.
            block: of the block.
            attn: its cross-attention; its weights are there now.
        """
        found = self._kept.get((number, block))
        if found is None:
            # A bias keeps the fast kernels of GPUs away, and costs a CPU nothing.
            padding = branch.padding if branch.context.device.type == "cpu" else 0
            found = cross_keys(attn, branch.context, TEXT_TOKENS, padding)
            if self._fits(transformer, found):
                self._kept[number, block] = found
        return found

    def _fits(self, transformer: nn.Module, keys: CrossKeys) -> bool:
        each = sum(tensor.nbytes for tensor in (*keys.text, *keys.images))
        return 2 * len(transformer.blocks) * each <= self._most


def count_padding(text: Tensor) -> int:
    """How many rows at the end of an encoded text are zeros, and so stay alike in every layer.

    Args:
        text: [1, 512, text_dim].
    """
    used = text[0].any(-1).nonzero()
    return text.shape[1] - (int(used[-1]) + 1 if len(used) else 0)
