"""The miniature's language: a tokenizer that knows the captions' words, and encoders by chance.

Neither the text encoder nor the image encoder is trained. Random ones tell words and pictures
apart, and the transformer learns what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wan.encode.prompt import DEFAULT_NEGATIVE, DEFAULT_PROMPT, clean_prompt
from wan.load.image import build_image_encoder
from wan.load.text import build_text_encoder
from wan.payloads import Tokenizer, Variant
from wan.tiny.configs import IMAGE_ENCODER, TEXT_ENCODER
from wan.tiny.tokenizer import tokenizer_json
from wan.tiny.weights import random_tensors

from .scenes import COLOURS, MOTIONS, SHAPES, SPEEDS, VAGUE

TOKENS = 16
"""Room for a caption; what is left of 512 is counted, not computed."""
FIRST_WORD = TEXT_ENCODER["vocab_size"]


def words() -> list[str]:
    """What is one token each: the captions' words, and the default texts of the real models."""
    captions = [*COLOURS, *SHAPES, *MOTIONS, *SPEEDS, VAGUE, "the", "a puppet"]
    known = list(dict.fromkeys(word for caption in captions for word in caption.split()))
    plain = clean_prompt(DEFAULT_NEGATIVE[Variant.ANIMATE])
    shaken = clean_prompt(DEFAULT_NEGATIVE[Variant.I2V]).removesuffix(plain)
    return [*known, plain, shaken, clean_prompt(DEFAULT_PROMPT[Variant.ANIMATE])]


def write_encoders(folder: Path) -> None:
    """`tokenizer`, `text_encoder` and `image_encoder` of a Diffusers folder; always the same."""
    tokenizer = folder / "tokenizer" / "tokenizer.json"
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.write_text(tokenizer_json(words()), "utf-8")
    text = random_tensors("mini text", build_text_encoder(text_config()))
    _write(folder / "text_encoder" / "model.safetensors", text)
    image = random_tensors("mini image", build_image_encoder(IMAGE_ENCODER))
    _write(folder / "image_encoder" / "model.safetensors", image)


def text_config() -> dict[str, Any]:
    """Constructor arguments of the text encoder."""
    sizes = {"vocab_size": FIRST_WORD + len(words()), "d_model": 64, "d_kv": 16, "d_ff": 128}
    return TEXT_ENCODER | sizes


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.half().contiguous() for name, t in tensors.items()}, path)


class Texts:
    """Captions as the transformer meets them, each encoded once."""

    def __init__(self, tokenizer: Tokenizer, encoder: nn.Module) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder
        self._known: dict[str, tuple[Tensor, int]] = {}

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """[B, 16, 64] with zeros behind each text, and the number of tokens [B] of each."""
        for caption in captions:
            if caption not in self._known:
                ids = self._tokenizer.encode(clean_prompt(caption), TOKENS)
                hidden = self._encoder(torch.tensor([ids])).last_hidden_state[0]
                padded = torch.zeros(TOKENS, hidden.shape[-1])
                padded[: len(ids)] = hidden
                self._known[caption] = padded, len(ids)
        found = [self._known[caption] for caption in captions]
        return torch.stack([t for t, _ in found]), torch.tensor([n for _, n in found])
