"""Build the CLIP vision encoder from any of the layouts its weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import image_config
from .fill import check_fit, fill, on_meta, read_tensors
from .header import read_header
from .inspect import Identity, Kind, expect, readable


def inspect_image_encoder(path: Path) -> tuple[Identity, dict[str, Any]]:
    """Constructor arguments of an image encoder file. Reads no weights.

    Raises:
        MissingFileError: the file is not there.
        ModelError: it is damaged, quantised, or no CLIP vision model.
    """
    identity = expect(read_header(path), Kind.IMAGE_ENCODER)
    with readable(identity.header.name):
        return identity, image_config(identity)


def build_image_encoder(config: dict[str, Any]) -> nn.Module:
    """The image encoder with shapes but without memory (meta device)."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    return on_meta(lambda: CLIPVisionModel(CLIPVisionConfig(**config)))


def check_image_encoder(path: Path) -> dict[str, Any]:
    """Constructor arguments, after a comparison of all names and shapes.

    Raises:
        ModelError, MissingFileError: the file cannot be loaded.
    """
    return _prepare(path)[1]


def _prepare(path: Path) -> tuple[Identity, dict[str, Any], nn.Module]:
    identity, config = inspect_image_encoder(path)
    with readable(identity.header.name):
        model = build_image_encoder(config)
    check_fit(identity.header, model)
    return identity, config, model


def load_image_encoder(path: Path, dtype: torch.dtype, unpack_fp8: bool = False) -> nn.Module:
    """Read the image encoder; Wan uses its `hidden_states[-2]`.

    Args:
        path: ComfyUI's clip_vision_h.safetensors, a Diffusers `image_encoder` folder, or the
            authors' file (`.pth` or safetensors, whole CLIP or its visual half).
        dtype: type of the weights; quantised linear layers stay quantised and compute in it.
        unpack_fp8: give fp8 layers their full size, for devices that cannot hold float8.
    Returns:
        `CLIPVisionModel` on the CPU, eval mode, without gradients.
    Raises:
        ModelError, MissingFileError: as `check_image_encoder`.
    """
    identity, _, model = _prepare(path)
    weights = read_tensors(identity)
    return fill(model, weights.tensors, dtype, (), weights.quantised, unpack_fp8)
