"""A part whose weights somebody else has loaded already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..memo import digest
from ..payloads import WanModel
from ..residency import Part
from .config import vae_config
from .fill import check_fit, fill
from .header import Header, TensorInfo
from .inspect import Kind, Layout, expect, readable, rows_of
from .keys import drop_unused, to_standard
from .vae import build_vae

NAME = "the connected VAE"


def borrow_vae(model: WanModel, tensors: Mapping[str, Tensor]) -> WanModel:
    """The model with another VAE.

    Args:
        model: gives everything else; stays as it is.
        tensors: weights of a Wan 2.1 VAE with the names of its authors or of Diffusers. Those that
            are float32 on the CPU are shared, not copied.
    Raises:
        ModelError: they are not the weights of a Wan 2.1 VAE.
    """
    used = drop_unused(dict(tensors))
    infos = {name: TensorInfo("F32", tuple(tensor.shape)) for name, tensor in used.items()}
    identity = expect(Header(Path(NAME), infos), Kind.VAE)
    with readable(NAME):
        config = vae_config(identity)
        module = build_vae(config)
    check_fit(identity.header, module)
    if config["z_dim"] != model.config["out_channels"]:
        raise ModelError(
            what=f"{NAME} gives {config['z_dim']} latent channels, but {model.name!r} takes "
            f"{model.config['out_channels']}.",
            why="The files belong to different models.",
            fix="Connect the VAE of Wan 2.1.",
        )
    rows = rows_of(Kind.VAE, used) if identity.layout is Layout.ORIGINAL else ()
    own = {name: tensor.detach().cpu() for name, tensor in used.items()}
    own = to_standard(own, rows) if rows else own
    mark = digest(*(own[name] for name in sorted(own)))

    def read() -> nn.Module:
        return fill(module, dict(own), torch.float32)

    part: Part[nn.Module] = Part("vae", read, model.vae.placement)
    return replace(model, vae=part, identity=(*model.identity, "vae", mark))
