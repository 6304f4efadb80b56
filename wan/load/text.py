"""Build the UMT5 text encoder from any of the layouts its weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import text_config
from .fill import check_fit, fill, on_meta, read_tensors
from .header import read_header
from .inspect import Identity, Kind, expect, readable

_TIED = "encoder.embed_tokens.weight"


def inspect_text_encoder(path: Path) -> tuple[Identity, dict[str, Any]]:
    """Constructor arguments of a text encoder file. Reads no weights.

    Raises:
        MissingFileError: the file or a shard of it is not there.
        ModelError: it is damaged, quantised, or no UMT5.
    """
    identity = expect(read_header(path), Kind.TEXT_ENCODER)
    with readable(identity.header.name):
        return identity, text_config(identity)


def build_text_encoder(config: dict[str, Any]) -> nn.Module:
    """The text encoder with shapes but without memory (meta device)."""
    from transformers import UMT5Config, UMT5EncoderModel

    return on_meta(lambda: UMT5EncoderModel(UMT5Config(**config)))


def check_text_encoder(path: Path) -> dict[str, Any]:
    """Constructor arguments, after a comparison of all names and shapes.

    Raises:
        ModelError, MissingFileError: the file cannot be loaded.
    """
    return _prepare(path)[1]


def _prepare(path: Path) -> tuple[Identity, dict[str, Any], Any]:
    identity, config = inspect_text_encoder(path)
    with readable(identity.header.name):
        model = build_text_encoder(config)
    check_fit(identity.header, model, ignore=(_TIED,))
    return identity, config, model


def load_text_encoder(path: Path, dtype: torch.dtype, unpack_fp8: bool = False) -> nn.Module:
    """Read the text encoder.

    Args:
        path: ComfyUI's single file, a GGUF file with llama.cpp's names, a Diffusers
            `text_encoder` folder, or the authors' file (`.pth` or safetensors).
        dtype: type of the weights. With float16 the output layers that transformers keeps in
            float32 stay so, because float16 overflows there. Other quantised linear layers stay
            quantised and compute in this type.
        unpack_fp8: give fp8 layers their full size, for devices that cannot hold float8.
    Returns:
        `UMT5EncoderModel` on the CPU, eval mode, without gradients.
    Raises:
        ModelError, MissingFileError: as `check_text_encoder`.
    """
    identity, _, model = _prepare(path)
    kept: set[str] = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype is torch.float16:
        kept |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    # one parameter for both, so that the embedding moves and counts once
    model.encoder.embed_tokens = model.shared
    weights = read_tensors(identity)
    return fill(model, weights.tensors, dtype, kept, weights.quantised, unpack_fp8)
