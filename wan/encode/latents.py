"""Video to latents, four frames at a time, so that no long clip is held in pixels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..latents import empty_memory, latent_statistics
from ..progress import Reporter


@torch.inference_mode()
def encode_chunks(vae: nn.Module, chunks: Iterable[Tensor], reporter: Reporter) -> Tensor:
    """Encode consecutive chunks of one video through the causal VAE.

    Args:
        vae: a diffusers `AutoencoderKLWan` on its device.
        chunks: the first [1, 3, 1, H, W], every later one [1, 3, 4, H, W]; -1..1.
        reporter: asked between chunks whether to go on.
    Returns:
        [1, 16, chunks, H/8, W/8] float32 on the CPU: the posterior mean, normalised.
    Source: Wan2.1 wan/modules/vae.py; equal to `AutoencoderKLWan.encode` of the whole video.
    """
    weight = next(vae.parameters())
    memory = empty_memory(vae.encoder)
    encoded = []
    for chunk in chunks:
        reporter.check_cancelled()
        features = vae.encoder(
            chunk.to(weight.device, weight.dtype), feat_cache=memory, feat_idx=[0]
        )
        # The 1x1 convolution behind the encoder sees one frame at a time: chunks do not matter.
        mean = vae.quant_conv(features).chunk(2, dim=1)[0]
        encoded.append(mean.to("cpu", torch.float32))
    mean, std = latent_statistics(vae)
    return (torch.cat(encoded, dim=2) - mean) / std
