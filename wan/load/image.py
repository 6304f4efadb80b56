"""Build the CLIP vision encoder from any of the layouts its weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import image_config
from .fill import check_fit, fill, on_meta, read_tensors
from .header import read_header
from .inspect import Identity, Kind, expect


def inspect_image_encoder(path: Path) -> tuple[Identity, dict[str, Any]]:
    """Constructor arguments of an image encoder file. Reads no weights.

    Raises:
        MissingFileError: the file is not there.
        ModelError: it is damaged, quantised, or no CLIP vision model.
    """
    identity = expect(read_header(path), Kind.IMAGE_ENCODER)
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
    identity, config = inspect_image_encoder(path)
    check_fit(identity.header, build_image_encoder(config))
    return config


def load_image_encoder(path: Path, dtype: torch.dtype) -> nn.Module:
    """Read the image encoder; Wan uses its `hidden_states[-2]`.

    Args:
        path: ComfyUI's clip_vision_h.safetensors, a Diffusers `image_encoder` folder, or the
            authors' file (`.pth` or safetensors, whole CLIP or its visual half).
        dtype: type of the weights.
    Returns:
        `CLIPVisionModel` on the CPU, eval mode, without gradients.
    Raises:
        ModelError, MissingFileError: as `check_image_encoder`.
    """
    identity, config = inspect_image_encoder(path)
    model = build_image_encoder(config)
    check_fit(identity.header, model)
    return fill(model, read_tensors(identity), dtype)
