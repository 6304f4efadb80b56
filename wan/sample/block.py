"""One Wan block over the modules of diffusers: the same weights, fewer passes over memory.

The linear layers are called as modules, so that whatever they are (quantised, with a LoRA on top,
held by a host's memory manager) stays in effect; norms and modulation are read when they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..kernels import Product, add_and_normalise, gated_add, gelu, normalise, turn
from .attention import Attend
from .rope import Rotary


@dataclass(frozen=True)
class CrossKeys:
    """What one block's cross-attention looks at, ready for attention."""

    text: tuple[Tensor, Tensor]
    """Keys and values, each [1, tokens, heads, head_dim]."""
    bias: Tensor | None
    """[1, 1, 1, tokens], added to what each query finds; None: nothing."""
    images: tuple[Tensor, Tensor]
    """As `text`."""


def run_block(
    block: nn.Module,
    states: Sequence[Tensor],
    keys: Sequence[CrossKeys],
    modulation: Tensor,
    rotary: Rotary,
    attend: Attend,
    product: Product,
    attend_itself: Attend | None = None,
) -> None:
    """Send hidden states through a block, in place.

    Args:
        block: a diffusers `WanTransformerBlock`.
        states: [1, tokens, dim] of each branch; changed.
        keys: of each branch, from `cross_keys`.
        modulation: [1, 6, dim], from the time embedding.
        rotary: positions.
        attend: computes attention.
        product: multiplies with the linear layers.
        attend_itself: computes the self-attention, where other ranks have tokens too; None:
            `attend` does.
    Source: diffusers models/transformers/transformer_wan.py, WanTransformerBlock.
    """
    shift, scale, gate, shift2, scale2, gate2 = _modulation(block, modulation)
    norm1, norm2, norm3 = block.norm1, block.norm2, block.norm3
    for x, cross in zip(states, keys, strict=True):
        normed = normalise(x, scale, shift, norm1.eps)
        found = _attend_to_itself(block.attn1, normed, rotary, attend_itself or attend, product)
        if isinstance(norm2, nn.Identity):
            gated_add(x, found, gate)
            normed = x
        else:
            normed = add_and_normalise(
                x, found, gate, norm2.weight.float(), norm2.bias.float(), norm2.eps
            )
        found = _attend_across(block.attn2, normed, cross, attend, product)
        normed = add_and_normalise(x, found, None, scale2, shift2, norm3.eps)
        gated_add(x, _feed_forward(block.ffn, normed, product), gate2)


def cross_keys(attn: nn.Module, context: Tensor, text_tokens: int, padding: int) -> CrossKeys:
    """Keys and values of a block's cross-attention.

    Args:
        attn: the block's `attn2`.
        context: [1, image tokens + text tokens, dim], images first.
        text_tokens: how many of the last tokens are text.
        padding: how many of the last tokens are alike; only one of them is looked at, with the
            weight of all. 0 or 1: each one for itself.
    """
    images = context[:, : context.shape[1] - text_tokens]
    text, bias = context[:, context.shape[1] - text_tokens :], None
    if padding > 1:
        text = text[:, : text_tokens - padding + 1]
        bias = text.new_zeros(1, 1, 1, text.shape[1])
        bias[..., -1] = torch.tensor(padding, dtype=torch.float32).log()
    pictures = _keys_of(attn, attn.add_k_proj, attn.add_v_proj, attn.norm_added_k, images)
    return CrossKeys(_keys_of(attn, attn.to_k, attn.to_v, attn.norm_k, text), bias, pictures)


def _keys_of(
    attn: nn.Module, to_key: nn.Module, to_value: nn.Module, norm: nn.Module, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    key = turn(to_key(tokens), norm.weight, norm.eps)
    return _heads(attn, key), _heads(attn, to_value(tokens))


def _modulation(block: nn.Module, modulation: Tensor) -> tuple[Tensor, ...]:
    """Shift, scale and gate of attention, then of the feed-forward layers; scales with 1 added."""
    parts = (block.scale_shift_table + modulation.float())[0]
    parts[1::3] += 1
    return parts.unbind()


def _heads(attn: nn.Module, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attn.heads, -1))


def _attend_to_itself(
    attn: nn.Module, x: Tensor, rotary: Rotary, attend: Attend, product: Product
) -> Tensor:
    query, key, value = product((attn.to_q, attn.to_k, attn.to_v), x)
    query = turn(query, attn.norm_q.weight, attn.norm_q.eps, *rotary.angles)
    key = turn(key, attn.norm_k.weight, attn.norm_k.eps, *rotary.angles)
    found = attend(_heads(attn, query), _heads(attn, key), _heads(attn, value), None)
    return product((attn.to_out[0],), found.flatten(2))[0]


def _attend_across(
    attn: nn.Module, x: Tensor, keys: CrossKeys, attend: Attend, product: Product
) -> Tensor:
    (query,) = product((attn.to_q,), x)
    query = _heads(attn, turn(query, attn.norm_q.weight, attn.norm_q.eps))
    found = attend(query, *keys.text, keys.bias)
    found += attend(query, *keys.images, None)
    return product((attn.to_out[0],), found.flatten(2))[0]


def _feed_forward(layers: nn.Module, x: Tensor, product: Product) -> Tensor:
    (wide,) = product((layers.net[0].proj,), x)
    gelu(wide)
    return product((layers.net[2],), wide)[0]
