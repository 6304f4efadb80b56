"""Build the Wan transformers from any of the layouts their weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..payloads import Variant
from .config import transformer_config
from .fill import check_fit, fill, on_meta, read_tensors
from .header import read_header
from .inspect import Identity, Kind, expect, find_variant, readable


def inspect_transformer(path: Path) -> tuple[Identity, Variant, dict[str, Any]]:
    """What kind of transformer a file is, and its constructor arguments. Reads no weights.

    Raises:
        MissingFileError: the file or a shard of it is not there.
        ModelError: it is damaged, quantised, no Wan transformer, or one that cannot run here.
    """
    identity = expect(read_header(path), Kind.TRANSFORMER)
    with readable(identity.header.name):
        return identity, find_variant(identity), transformer_config(identity)


def build_transformer(variant: Variant, config: dict[str, Any]) -> nn.Module:
    """The transformer with shapes but without memory (meta device)."""
    from diffusers import WanAnimateTransformer3DModel, WanTransformer3DModel

    is_animate = variant is Variant.ANIMATE
    model_class = WanAnimateTransformer3DModel if is_animate else WanTransformer3DModel
    return on_meta(lambda: model_class(**config))


def check_transformer(path: Path) -> tuple[Variant, dict[str, Any]]:
    """Everything that can be said about a transformer file without reading its weights.

    Raises:
        ModelError, MissingFileError: it cannot be loaded; all that `inspect_transformer` says,
            and tensors that are missing, left over or of another shape.
    """
    _, variant, config, _ = _prepare(path)
    return variant, config


def _prepare(path: Path) -> tuple[Identity, Variant, dict[str, Any], nn.Module]:
    identity, variant, config = inspect_transformer(path)
    with readable(identity.header.name):
        model = build_transformer(variant, config)
    check_fit(identity.header, model)
    return identity, variant, config, model


def load_transformer(path: Path, dtype: torch.dtype, unpack_fp8: bool = False) -> nn.Module:
    """Read a Wan transformer.

    Args:
        path: a safetensors or GGUF file (original names, with or without prefix, or Diffusers
            names), a shard index, or a folder that holds either.
        dtype: type of the weights. What diffusers keeps in float32 (norms, modulation tables,
            time embedder, Animate's motion directions) and the rope tables stay float32.
            Quantised linear layers stay quantised and compute in this type.
        unpack_fp8: give fp8 layers their full size, for devices that cannot hold float8.
    Returns:
        `WanTransformer3DModel` or `WanAnimateTransformer3DModel` on the CPU, eval mode, without
        gradients.
    Raises:
        ModelError, MissingFileError: as `check_transformer`.
    """
    identity, _, config, model = _prepare(path)
    # made anew outside the meta device: its tables are computed, not stored, and the float64
    # they are computed in must not pass through `dtype`
    model.rope = type(model.rope)(
        config["attention_head_dim"], config["patch_size"], config["rope_max_seq_len"]
    )
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    weights = read_tensors(identity)
    return fill(model, weights.tensors, dtype, kept, weights.quantised, unpack_fp8)
