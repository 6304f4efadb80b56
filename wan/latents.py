"""Facts about the Wan VAE that encoding and decoding share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def latent_statistics(vae: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation per latent channel, each [1, 16, 1, 1, 1] float32 on the CPU."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return mean, std


def empty_memory(coder: nn.Module) -> list[Tensor | None]:
    """Room for the frames that the causal convolutions of an encoder or decoder look back at.

    Handed to the coder's forward instead of the module's own, so that a cancelled run leaves
    nothing behind and two runs do not meet.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    return [None] * sum(isinstance(m, WanCausalConv3d) for m in coder.modules())
