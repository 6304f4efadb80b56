"""One job on several GPUs: each has all weights and a share of the tokens."""

from __future__ import annotations

from ..errors import InputError
from .work import ACTIVATION_BYTES, DIM, HEADS, LAYERS

EFFECTIVE = 0.7
"""Of the nominal rate between GPUs that collective operations reach."""
ULYSSES, RING = "Ulysses", "ring"


def way(ranks: int) -> str:
    """How attention sees all tokens: heads are dealt out where they divide, else keys and values go
    round."""
    return ULYSSES if HEADS % ranks == 0 else RING


def exchanged(tokens: int, ranks: int) -> float:
    """Bytes that each GPU sends in one forward of one branch.

    Ulysses turns queries, keys, values and the result from shares of tokens to shares of heads and
    back; in a ring each share of keys and values visits all others.

    Args:
        tokens: of the whole clip.
        ranks: GPUs, 1 or more.
    """
    if ranks == 1:
        return 0.0
    share = tokens / ranks * DIM * ACTIVATION_BYTES
    if way(ranks) == ULYSSES:
        return LAYERS * 4 * share * (ranks - 1) / ranks
    return LAYERS * 2 * share * (ranks - 1)


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
