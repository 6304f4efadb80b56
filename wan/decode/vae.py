"""Latents to frames, one latent frame at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..geometry import SPATIAL_STRIDE
from ..latents import empty_memory, latent_statistics
from ..memory import vae_decode_bytes
from ..payloads import VideoLatents, WanModel
from ..progress import Reporter, phase


def decode_frames(
    model: WanModel, video: VideoLatents, reporter: Reporter
) -> Iterator[tuple[int, Tensor]]:
    """Decode latents in order.

    Args:
        model: gives the VAE.
        video: latents of 4n+1 frames.
        reporter: told once per latent frame.
    Yields:
        (index of the first frame, frames [1 or 4, H, W, 3] float32 in 0..1 on the CPU).
    Source: Wan2.1 wan/modules/vae.py; equal to `AutoencoderKLWan.decode` of the whole video.
    """
    count, rows, columns = video.latents.shape[2:]
    needed = vae_decode_bytes(columns * SPATIAL_STRIDE, rows * SPATIAL_STRIDE)
    with (
        phase(reporter, "decode", count) as advance,
        model.vae.on_device(needed) as vae,
        torch.inference_mode(),
    ):
        weight = next(vae.parameters())
        mean, std = latent_statistics(vae)
        latents = vae.post_quant_conv((video.latents * std + mean).to(weight.device, weight.dtype))
        memory = empty_memory(vae.decoder)
        first_frame = 0
        for index in range(count):
            pixels = vae.decoder(
                latents[:, :, index : index + 1],
                feat_cache=memory,
                feat_idx=[0],
                first_chunk=index == 0,
            )
            frames = pixels[0].float().clamp_(-1, 1).add_(1).div_(2)
            advance()
            yield first_frame, frames.permute(1, 2, 3, 0).cpu()  # C T H W -> T H W C
            first_frame += frames.shape[1]


def decode_video(model: WanModel, video: VideoLatents, reporter: Reporter) -> Tensor:
    """All frames of a video, [T, H, W, 3] float32 in 0..1 on the CPU; memory is taken once."""
    rows, columns = video.latents.shape[3:]
    size = (video.num_frames, rows * SPATIAL_STRIDE, columns * SPATIAL_STRIDE, 3)
    result = torch.empty(size)
    for first, frames in decode_frames(model, video, reporter):
        result[first : first + len(frames)] = frames
    return result
