"""Facts about the Wan VAE that encoding and decoding share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def latent_statistics(vae: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation per latent channel, each [1, 16, 1, 1, 1] float32 on the CPU."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    return mean, std
