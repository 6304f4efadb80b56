"""One job on several GPUs: each has all weights and a share of the tokens."""

from __future__ import annotations

from ..errors import InputError
from ..parallel.attention import block_bytes, uses_heads
from .work import ACTIVATION_BYTES, DIM, HEADS, LAYERS

EFFECTIVE = 0.7
"""Of the nominal rate between GPUs that collective operations reach."""
ULYSSES, RING = "Ulysses", "ring"


def way(ranks: int) -> str:
    """How attention sees all tokens: heads are dealt out where they divide, else keys and values go
    round."""
    return ULYSSES if uses_heads(ranks, HEADS) else RING


def exchanged(tokens: int, ranks: int) -> float:
    """Bytes that each GPU sends in one forward of one branch.

    Args:
        tokens: of the whole clip.
        ranks: GPUs, 1 or more.
    """
    return LAYERS * block_bytes(tokens, DIM, HEADS, ranks, ACTIVATION_BYTES)


def check_ranks(ranks: int, tokens: int) -> None:
    """Refuse what cannot be shared out.

    Raises:
        InputError: below 1, or more GPUs than tokens.
    """
    if not 1 <= ranks <= tokens:
        raise InputError(
            what=f"--gpus-per-job is {ranks}.",
            why=f"So many GPUs share the {tokens:,} tokens of one clip.",
            fix="Use 1, 2, 4 or 8.",
        )
