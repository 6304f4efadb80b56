"""Cross-attention to a short text that gives what attention to 512 tokens gives.

A text is filled up to 512 tokens with zeros, so that nearly all of them are the same. While the
miniature learns, a few stand for all: their attention scores rise by the logarithm of how many
each one stands for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wan.geometry import TEXT_TOKENS


class ShortText:
    """An attention processor for the text and image attention of a Wan transformer.

    The stock processor splits at 512 tokens from the end; this one where `image_tokens` says.
    """

    def __init__(self, image_tokens: int) -> None:
        self._image_tokens = image_tokens
        self.bias: Tensor | None = None
        """[B, 1, 1, tokens]: see `pad_bias`."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        *_: Any,
    ) -> Tensor:
        """What `WanAttnProcessor` gives for [B, tokens, dim] and [B, images + text, dim]."""
        images, text = encoder_hidden_states.split(
            [self._image_tokens, encoder_hidden_states.shape[1] - self._image_tokens], dim=1
        )

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(2, (attn.heads, -1)).transpose(1, 2).float()

        query = heads(attn.norm_q(attn.to_q(hidden_states)))
        key, value = heads(attn.norm_k(attn.to_k(text))), heads(attn.to_v(text))
        with torch.autocast(key.device.type, enabled=False):  # bf16 attention is slow on a CPU
            seen = functional.scaled_dot_product_attention(query, key, value, self.bias)
        key = heads(attn.norm_added_k(attn.add_k_proj(images)))
        value = heads(attn.add_v_proj(images))
        with torch.autocast(key.device.type, enabled=False):
            seen = seen + functional.scaled_dot_product_attention(query, key, value)
        return attn.to_out[0](seen.transpose(1, 2).flatten(2).type_as(hidden_states))


def pad_bias(lengths: Tensor, tokens: int) -> Tensor:
    """[B, 1, 1, tokens]: zero for a text's own tokens, more for those that stand for padding.

    Args:
        lengths: [B] tokens of each text, below `tokens`.
        tokens: of all texts, padding included.
    """
    own = torch.arange(tokens, device=lengths.device)[None] < lengths[:, None]
    shares = (TEXT_TOKENS - lengths).float() / (tokens - lengths)
    return torch.where(own, 0.0, shares.log()[:, None])[:, None, None]


def shorten(transformer: nn.Module, image_tokens: int) -> ShortText:
    """Let all blocks of a transformer attend to short texts; gives what to tell the bias."""
    processor = ShortText(image_tokens)
    for block in transformer.blocks:
        block.attn2.set_processor(processor)
    return processor


def lengthen(transformer: nn.Module) -> None:
    """The stock attention again."""
    for block in transformer.blocks:
        block.attn2.set_processor(type(block.attn1.processor)())
