"""Prompts to text embeddings: cleaning, default negatives, 512 tokens."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..geometry import TEXT_TOKENS
from ..payloads import TextEmbeds, Variant, WanModel
from ..progress import Reporter, phase
from ..shortage import fewer_weights, streamed, within_memory

_WORK_BYTES = 300_000_000
"""Activations of 512 tokens: the attention scores of 64 heads, and the widest layer in float32."""

# The trained negative prompt: Wan2.1 wan/configs/shared_config.py.
_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，"
    "低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，"
    "毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
# Wan2.1 wan/configs/wan_i2v_14B.py puts "camera shake" in front, the FLF2V model "cut" before that.
DEFAULT_NEGATIVE = {
    Variant.I2V: "镜头晃动，" + _NEGATIVE,
    Variant.FLF2V: "镜头切换，镜头晃动，" + _NEGATIVE,
    Variant.ANIMATE: _NEGATIVE,
}


# What is encoded where the prompt is left empty: Wan2.2 wan/configs/wan_animate_14B.py.
DEFAULT_PROMPT = {Variant.ANIMATE: "视频中的人在做动作"}


def clean_prompt(text: str) -> str:
    """Repair broken Unicode, undo HTML escapes and collapse white space.

    Source: Wan2.1 wan/modules/tokenizers.py, clean="whitespace".
    """
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


def encode_prompts(
    model: WanModel,
    prompt: str,
    negative_prompt: str | None,
    reporter: Reporter,
) -> TextEmbeds:
    """Encode a prompt and its negative.

    Args:
        model: gives the text encoder and, by its variant, the default texts.
        prompt: what should be seen. Animate weights have a default text for "", with which they
            are used best; for others it must not be blank.
        negative_prompt: "" takes the default of the model, white space is truly empty, None
            skips the negative (for a run without guidance).
        reporter: told once per text that this model has not encoded before.
    Returns:
        Both embeddings, [1, 512, text_dim] float32 on the CPU.
    Raises:
        InputError: the prompt is blank.
    """
    prompt = prompt or DEFAULT_PROMPT.get(model.variant, "")
    if not prompt.strip() and model.variant not in DEFAULT_PROMPT:
        raise InputError(
            what="The prompt is empty.",
            why=f"{model.name!r} ({model.variant.value}) was trained with a description of every "
            "video; only Wan 2.2 Animate weights have a default text.",
            fix="Write what happens in the video, for example: a cat turns its head.",
        )
    texts = [prompt]
    if negative_prompt is not None:
        texts.append(negative_prompt or DEFAULT_NEGATIVE[model.variant])
    tokens = [tuple(model.tokenizer.encode(clean_prompt(t), TEXT_TOKENS)) for t in texts]
    memo = model.text_encoder.memo
    found = {ids: memo.find(ids) for ids in tokens}
    new = [ids for ids, embeds in found.items() if embeds is None]
    if new:
        made = within_memory(
            lambda: _encode_all(model, new, reporter),
            model.text_encoder,
            lambda: _WORK_BYTES,
            reporter,
            streamed(model.text_encoder),
            fewer_weights(model.text_encoder),
        )
        found |= {ids: memo.keep(ids, embeds) for ids, embeds in zip(new, made, strict=True)}
    embeds = [found[ids] for ids in tokens]
    return TextEmbeds(embeds[0], embeds[1] if len(embeds) > 1 else None)  # type: ignore[arg-type]


def describe_text_memory(model: WanModel) -> str:
    """What `encode_prompts` will need, before anything is loaded, as one line for the user."""
    return model.text_encoder.describe_memory(_WORK_BYTES)


def _encode_all(
    model: WanModel, tokens: Sequence[tuple[int, ...]], reporter: Reporter
) -> list[Tensor]:
    with (
        phase(reporter, "encode prompt", len(tokens)) as advance,
        model.text_encoder.on_device(_WORK_BYTES) as encoder,
    ):
        embeds: list[Tensor] = []
        for ids in tokens:
            embeds.append(_encode(encoder, ids))
            advance()
        return embeds


@torch.inference_mode()
def _encode(encoder: nn.Module, ids: Sequence[int]) -> Tensor:
    # Tokens after the text are zeroed in the reference, so they need not be computed: with the
    # attention mask they do not change those before them either.
    device = next(encoder.parameters()).device
    hidden = encoder(torch.tensor([list(ids)], device=device)).last_hidden_state
    padded = torch.zeros(1, TEXT_TOKENS, hidden.shape[-1])
    padded[:, : len(ids)] = hidden.to("cpu", torch.float32)
    return padded
