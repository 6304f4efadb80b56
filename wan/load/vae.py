"""Build the Wan 2.1 VAE from any of the layouts its weights come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .config import vae_config
from .fill import check_fit, fill, on_meta, read_tensors
from .header import read_header
from .inspect import Identity, Kind, expect, readable


def inspect_vae(path: Path) -> tuple[Identity, dict[str, Any]]:
    """Constructor arguments of a VAE file. Reads no weights.

    Raises:
        MissingFileError: the file is not there.
        ModelError: it is damaged, or not the Wan 2.1 VAE.
    """
    identity = expect(read_header(path), Kind.VAE)
    with readable(identity.header.name):
        return identity, vae_config(identity)


def build_vae(config: dict[str, Any]) -> nn.Module:
    """The VAE with shapes but without memory (meta device)."""
    from diffusers import AutoencoderKLWan

    return on_meta(lambda: AutoencoderKLWan(**config))


def check_vae(path: Path) -> dict[str, Any]:
    """Constructor arguments, after a comparison of all names and shapes.

    Raises:
        ModelError, MissingFileError: the file cannot be loaded.
    """
    return _prepare(path)[1]


def _prepare(path: Path) -> tuple[Identity, dict[str, Any], nn.Module]:
    identity, config = inspect_vae(path)
    with readable(identity.header.name):
        model = build_vae(config)
    check_fit(identity.header, model)
    return identity, config, model


def load_vae(path: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Read the VAE.

    Args:
        path: a safetensors or `.pth` file with original or Diffusers names, or a folder.
        dtype: type of the weights; the stages expect float32.
    Returns:
        `AutoencoderKLWan` on the CPU, eval mode, without gradients.
    Raises:
        ModelError, MissingFileError: as `check_vae`.
    """
    identity, _, model = _prepare(path)
    weights = read_tensors(identity)
    return fill(model, weights.tensors, dtype, (), weights.quantised)
