"""Build the UMT5 text encoder from any of the layouts its weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import text_config
from .fill import check_fit, fill, on_meta, read_tensors
from .header import read_header
from .inspect import Identity, Kind, expect

_TIED = "encoder.embed_tokens.weight"


def inspect_text_encoder(path: Path) -> tuple[Identity, dict[str, Any]]:
    """Constructor arguments of a text encoder file. Reads no weights.

    Raises:
        MissingFileError: the file or a shard of it is not there.
        ModelError: it is damaged, quantised, or no UMT5.
    """
    identity = expect(read_header(path), Kind.TEXT_ENCODER)
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
    identity, config = inspect_text_encoder(path)
    check_fit(identity.header, build_text_encoder(config), ignore=(_TIED,))
    return config


def load_text_encoder(path: Path, dtype: torch.dtype) -> nn.Module:
    """Read the text encoder.

    Args:
        path: ComfyUI's single file, a Diffusers `text_encoder` folder, or the authors' file
            (`.pth` or safetensors).
        dtype: type of the weights. With float16 the output layers that transformers keeps in
            float32 stay so, because float16 overflows there.
    Returns:
        `UMT5EncoderModel` on the CPU, eval mode, without gradients.
    Raises:
        ModelError, MissingFileError: as `check_text_encoder`.
    """
    identity, config = inspect_text_encoder(path)
    model: Any = build_text_encoder(config)
    check_fit(identity.header, model, ignore=(_TIED,))
    kept: set[str] = set(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    if dtype is torch.float16:
        kept |= set(getattr(model, "_keep_in_fp32_modules", None) or ())
    # one parameter for both, so that the embedding moves and counts once
    model.encoder.embed_tokens = model.shared
    return fill(model, read_tensors(identity), dtype, kept)
