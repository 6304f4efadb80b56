"""Self-attention of tokens that lie on several ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .split import Split

Attend = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]
"""Query, key and value, each [1, tokens, heads, head_dim], and a bias; see `wan.sample.attention`."""
_PIECE = 1 << 24
"""Scores that are held at once where no kernel gives their sums."""
_EFFICIENT_TYPES = (torch.float16, torch.bfloat16, torch.float32)


def across(split: Split, attend: Attend, heads: int) -> Attend:
    """Attention of this rank's queries to the keys of all ranks.

    Args:
        split: which tokens are where.
        attend: computes attention on one device; used where heads can be dealt out.
        heads: of the self-attention. If the ranks divide them, each rank computes some heads of all
            tokens (DeepSpeed-Ulysses, arXiv 2309.14509); else keys and values go round (ring
            attention, arXiv 2310.01889).
    Returns:
        What takes query, key and value of this rank's tokens; it has no use for a bias.
    """
    if uses_heads(split.group.size, heads):
        return lambda query, key, value, _: ulysses(split, attend, query, key, value)
    return lambda query, key, value, _: ring(split, query, key, value)


def uses_heads(ranks: int, heads: int) -> bool:
    """Whether heads are dealt out to the ranks; otherwise keys and values go round."""
    return heads % ranks == 0


def block_bytes(tokens: int, channels: int, heads: int, ranks: int, itemsize: int) -> float:
    """Bytes that leave a rank in one block and branch, on the average of all ranks.

    With S tokens of C channels of b bytes on N ranks: 4 S C b (N-1) / N^2 where heads are dealt out
    (query, key, value and the result), 2 S C b (N-1) / N where keys and values go round. The first
    is less wherever N is more than 2, and as much with 2.

    Args:
        tokens, channels, heads: of the video and the model.
        ranks: how many share the tokens.
        itemsize: bytes of a number, 2 for bfloat16.
    """
    whole = tokens * channels * itemsize
    times = 4 / ranks if uses_heads(ranks, heads) else 2
    return times * whole * (ranks - 1) / ranks


def ulysses(split: Split, attend: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by heads: tokens are exchanged for heads, and back.

    Args:
        split, attend: see `across`.
        query, key, value: [1, own tokens, heads, head_dim]; the ranks divide the heads.
    Returns:
        [1, own tokens, heads, head_dim].
    """
    ranks, sizes = split.group.size, split.sizes
    own = query.shape[1]
    # 3 s (r h) d -> (r s) 3 h d: for each rank its heads
    rows = torch.cat([query, key, value]).unflatten(2, (ranks, -1)).permute(2, 1, 0, 3, 4)
    rows = rows.flatten(0, 1).contiguous()
    whole = split.group.exchange(rows, [own] * ranks, sizes)  # S 3 h d
    query, key, value = whole.transpose(0, 1)[:, None].unbind()
    found = attend(query, key, value, None)[0].contiguous()  # S h d
    parts = split.group.exchange(found, sizes, [own] * ranks)
    # (r s) h d -> 1 s (r h) d
    return parts.unflatten(0, (ranks, own)).transpose(0, 1).flatten(1, 2)[None]


def ring(split: Split, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention by parts of the keys, which go from rank to rank while they are looked at.

    Args, returns: as `ulysses`, for any number of heads.
    """
    group, sizes = split.group, split.sizes
    held = torch.stack([key[0], value[0]])  # 2 s h d
    found = sums = None
    for turn in range(group.size):
        key, value = held[:, None]
        if turn == group.size - 1:
            part = attend_with_sums(query, key, value)
        else:
            coming = held.new_empty(2, sizes[(group.rank - turn - 1) % group.size], *held.shape[2:])
            with group.passing(held, coming):
                part = attend_with_sums(query, key, value)
            held = coming
        found, sums = part if found is None else merge(found, sums, *part)
    return found.type_as(query)


def merge(found: Tensor, sums: Tensor, other: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Attention to two sets of keys together, from that to each of them.

    Args:
        found, other: [1, tokens, heads, head_dim] float32.
        sums, others: [1, tokens, heads, 1] float32, logarithms of the sums of exponentials.
    Returns:
        Both of the union.
    """
    found = found - torch.sigmoid(others - sums) * (found - other)
    return found, sums - functional.logsigmoid(sums - others)


def attend_with_sums(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Attention, and the logarithm of the sum of the exponentials of its scores.

    Args:
        query, key, value: [1, tokens, heads, head_dim].
    Returns:
        ([1, tokens, heads, head_dim], [1, tokens, heads, 1]), both float32.
    """
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    found, sums = _kernel(query)(query, key, value)
    sums = sums[..., : query.shape[2], None]  # one kernel pads them
    return found.transpose(1, 2).float(), sums.transpose(1, 2).float()


def _kernel(query: Tensor) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What of PyTorch's gives the sums, by device and type."""
    aten = torch.ops.aten
    if query.device.type == "cpu":
        return lambda *x: aten._scaled_dot_product_flash_attention_for_cpu(*x)[:2]
    if query.device.type == "cuda" and query.dtype in (torch.float16, torch.bfloat16):
        return lambda *x: aten._scaled_dot_product_flash_attention(*x)[:2]
    if query.device.type == "cuda" and query.dtype in _EFFICIENT_TYPES:
        return lambda *x: aten._scaled_dot_product_efficient_attention(*x, None, True)[:2]
    return plain


def plain(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The formula, a piece of the queries at a time.

    Args:
        query, key, value: [1, heads, tokens, head_dim].
    Returns:
        ([1, heads, tokens, head_dim], [1, heads, tokens]) float32.
    """
    step = max(1, _PIECE // (key.shape[1] * key.shape[2]))
    key, value = key.float().transpose(-1, -2), value.float()
    found, sums = [], []
    for piece in query.float().split(step, dim=2):
        scores = piece @ key * query.shape[-1] ** -0.5
        found.append(scores.softmax(-1) @ value)
        sums.append(scores.logsumexp(-1))
    return torch.cat(found, dim=2), torch.cat(sums, dim=2)
