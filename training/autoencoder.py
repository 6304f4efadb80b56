"""The miniature of Wan's autoencoder: how it begins, what it learns from, how it is measured.

What made it train (stock weights do not, they stay grey): every convolution begins so that it
keeps the variance of what comes in, temporal ones look at the newest frame first, residual
branches begin small, and the latent's noise is next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from wan.tiny.configs import VAE

from .data import Videos, to_tensor
from .loop import Course, Run

CONFIG: dict[str, Any] = VAE | {"base_dim": 16, "dim_mult": [1, 2, 3, 3]}
LEARNING_RATE = 1.2e-3
_SMALL = 0.1
_FEW_NOISE = -7.0  # log-variance of the latents
_CROPS = 0.25  # share of the time in which small pieces around the sprite are learnt from
_ZEROED = 0.2  # share of clips that are black but for their first frame, as conditions are
_EDGE_WEIGHT, _EDGE_PIXELS, _EDGE_CONTRAST = 2.5, 5, 0.25


def make() -> nn.Module:
    """The autoencoder with its first weights."""
    from diffusers import AutoencoderKLWan
    from diffusers.models.autoencoders.autoencoder_kl_wan import (
        WanAttentionBlock,
        WanResample,
        WanResidualBlock,
    )

    vae = AutoencoderKLWan(**CONFIG)
    for module in vae.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            _keep_variance(module)
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            module.conv2.weight.data.mul_(_SMALL)
        elif isinstance(module, WanAttentionBlock):
            module.proj.weight.data.mul_(_SMALL)
        elif isinstance(module, WanResample) and module.mode == "downsample3d":
            _mean_of_two(module.time_conv)
        elif isinstance(module, WanResample) and module.mode == "upsample3d":
            _repeat(module.time_conv)
    variances = slice(CONFIG["z_dim"], None)
    vae.quant_conv.weight.data[variances].mul_(0.05)
    vae.quant_conv.bias.data[variances] = _FEW_NOISE
    return at_once(vae)


def at_once(vae: nn.Module) -> nn.Module:
    """Let coder modules take whole clips instead of chunk after chunk: the same numbers, faster.

    What differs without the cache of frames are the two temporal resamplings: the first frame
    passes them as it is. Weights with channels last make convolutions on a CPU twice as fast.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, WanRMS_norm

    for module in vae.modules():
        if isinstance(module, WanResample) and module.mode.endswith("3d"):
            module.forward = MethodType(_resample_at_once, module)
        elif isinstance(module, WanRMS_norm):
            module.forward = MethodType(_normalise, module)
        elif isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last)
    return vae


def encode(vae: nn.Module, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance, each [B, 16, n+1, H/8, W/8], of clips [B, 3, 4n+1, H, W] in -1..1."""
    mean, log_variance = vae.quant_conv(vae.encoder(clip)).chunk(2, dim=1)
    return mean, log_variance


def decode(vae: nn.Module, latents: Tensor) -> Tensor:
    """Clips in about -1..1 from latents."""
    return vae.decoder(vae.post_quant_conv(latents))


def train(run: Run, videos: Videos) -> nn.Module:
    """Learn for as long as the run says; goes on from its last checkpoint."""
    vae = make()
    course = Course(run, vae, LEARNING_RATE, betas=(0.9, 0.99), warm_up=50, decay=0.995)
    generator = np.random.default_rng(run.seed + course.step)
    torch.manual_seed(run.seed + course.step)
    loss_of = torch.compile(_loss, dynamic=False) if run.compiled else _loss
    for progress in course.steps():
        clip = _batch(videos, generator, progress)
        clip = clip.contiguous(memory_format=torch.channels_last_3d)
        usual = clip.shape[-1] != 96 and clip.shape[2] != 17  # what is rare is not worth compiling
        course.learn((loss_of if usual else _loss)(vae, clip.to(run.device)))
        if course.is_time_to_look():
            course.note("psnr", measure(course.smoothed(), videos, 16))
    return course.smoothed().cpu()


def train_decoder(run: Run, vae: nn.Module, videos: Videos) -> nn.Module:
    """Let the decoder alone go on, so that latents stay what they are.

    Args:
        run: see there.
        vae: trained, its statistics folded in.
        videos: as for `train`.
    """
    vae.requires_grad_(False)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(True)
    course = Course(run, vae, LEARNING_RATE / 2, betas=(0.9, 0.99), warm_up=50, decay=0.995)
    generator = np.random.default_rng(run.seed + course.step + 1)
    torch.manual_seed(run.seed + course.step + 1)
    for _ in course.steps():
        clip = _batch(videos, generator, 1.0).contiguous(memory_format=torch.channels_last_3d)
        course.learn(_loss(vae, clip.to(run.device)))
        if course.is_time_to_look():
            course.note("psnr", measure(course.smoothed(), videos, 16))
    return course.smoothed().cpu()


def _loss(vae: nn.Module, clip: Tensor) -> Tensor:
    with torch.autocast(clip.device.type, torch.bfloat16):
        return _difference(vae, clip)


def _difference(vae: nn.Module, clip: Tensor) -> Tensor:
    mean, log_variance = encode(vae, clip)
    log_variance = log_variance.float().clamp(-20, 5)
    spread = torch.randn_like(mean, dtype=torch.float32) * torch.exp(0.5 * log_variance)
    made = decode(vae, mean + spread).float()
    error = made - clip
    weight = _edges(clip)
    fit = ((error.abs() + error.square()) * weight).mean() / weight.mean()
    prior = 1e-4 * mean.float().square().mean()
    return fit + prior + 1e-5 * (log_variance.exp() - log_variance).mean()


@torch.no_grad()
def _edges(clip: Tensor) -> Tensor:
    """[B, 1, T, H, W]: more where neighbouring pixels differ, which is where shapes are told.

    In any colour: by brightness alone, green shapes would have no edges and stay blurred.
    """
    size, pad = (1, _EDGE_PIXELS, _EDGE_PIXELS), (0, _EDGE_PIXELS // 2, _EDGE_PIXELS // 2)
    high = functional.max_pool3d(clip, size, 1, pad)
    low = -functional.max_pool3d(-clip, size, 1, pad)
    return 1 + _EDGE_WEIGHT * ((high - low).amax(1, keepdim=True) > _EDGE_CONTRAST)


def _batch(videos: Videos, generator: np.random.Generator, progress: float) -> Tensor:
    if progress < _CROPS:
        clips = [_cropped(videos.draw(generator, 9, 64), generator) for _ in range(12)]
    elif generator.random() < 0.15:
        clips = [videos.draw(generator, 9, 96) for _ in range(2)]
    elif generator.random() < 0.15:
        clips = [videos.draw(generator, 17, 64) for _ in range(2)]
    else:
        clips = [videos.draw(generator, 9, 64) for _ in range(4)]
    batch = torch.cat([to_tensor(clip) for clip in clips])
    for clip in batch:
        if generator.random() < _ZEROED:
            last = clip[:, -1:].clone()
            clip[:, 1:] = 0
            if generator.random() < 0.3:
                clip[:, -1:] = last
    return batch


def _cropped(clip: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """5 frames of 32 pixels, mostly around the middle, where the sprite begins."""
    row, column = (int(v) for v in np.clip(generator.normal(16, 7, 2), 0, 32))
    first = int(generator.integers(0, 5))
    return clip[first : first + 5, row : row + 32, column : column + 32]


@torch.no_grad()
def measure(vae: nn.Module, videos: Videos, clips: int, seed: int = 10_000) -> float:
    """PSNR in dB, over all pixels of unseen clips of 9 frames and 64 pixels."""
    generator = np.random.default_rng(seed)
    error = 0.0
    for _ in range(clips):
        clip = to_tensor(videos.draw(generator, 9, 64)).to(device_of(vae))
        made = decode(vae, encode(vae, clip)[0]).clamp(-1, 1)
        error += float((made - clip).square().mean()) / clips
    return 10 * math.log10(4 / error)


def fold_statistics(vae: nn.Module, latents: Iterator[Tensor]) -> None:
    """Scale the latents inside the model, so that the stock mean and deviation normalise them.

    Other loaders have those constants built in, whatever a file says.
    """
    values = torch.cat([batch.transpose(0, 1).flatten(1) for batch in latents], dim=1)
    mean, std = values.mean(1), values.std(1)
    wanted_mean = torch.tensor(vae.config.latents_mean)
    wanted_std = torch.tensor(vae.config.latents_std)
    scale, channels = wanted_std / std, CONFIG["z_dim"]
    into, out = vae.quant_conv, vae.post_quant_conv
    with torch.no_grad():
        into.weight[:channels].mul_(scale.view(-1, 1, 1, 1, 1))
        into.bias[:channels].sub_(mean).mul_(scale).add_(wanted_mean)
        into.bias[channels:].add_(2 * scale.log())
        # out(x) of old latents x = (y - wanted) / scale + mean
        out.bias.add_(torch.mv(out.weight[:, :, 0, 0, 0], mean - wanted_mean / scale))
        out.weight.div_(scale.view(1, -1, 1, 1, 1))


def device_of(module: nn.Module) -> torch.device:
    """Where its weights are."""
    return next(module.parameters()).device


def save(vae: nn.Module, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """In Diffusers layout, 16 bits a number."""
    vae.to(dtype).save_pretrained(folder)
    vae.float()


def _keep_variance(conv: nn.Conv2d | nn.Conv3d) -> None:
    inputs = conv.weight[0].numel()
    kernel = conv.weight.shape[2:]
    if len(kernel) == 3 and kernel[0] == 3:
        inputs //= 3
    nn.init.normal_(conv.weight, 0, 1 / math.sqrt(inputs))
    if len(kernel) == 3 and kernel[0] == 3:
        conv.weight.data[:, :, :2].mul_(_SMALL)
    nn.init.zeros_(conv.bias)


def _mean_of_two(conv: nn.Conv3d) -> None:
    channels = conv.weight.shape[0]
    conv.weight.data.normal_(0, 0.02 / math.sqrt(channels))
    for tap in (1, 2):
        conv.weight.data[range(channels), range(channels), tap] += 0.5


def _repeat(conv: nn.Conv3d) -> None:
    channels = conv.weight.shape[1]
    conv.weight.data.normal_(0, 0.02 / math.sqrt(channels))
    for half in (0, channels):
        rows = torch.arange(channels)
        conv.weight.data[rows + half, rows, 2] += 1.0


def _normalise(self: Any, x: Tensor) -> Tensor:
    size = x.float().square().mean(1, keepdim=True)
    return x * torch.rsqrt(size + 1e-12).to(x.dtype) * self.gamma + self.bias


def _resample_at_once(self: Any, x: Tensor, feat_cache: Any = None, feat_idx: Any = None) -> Tensor:
    if feat_cache is not None:
        return type(self).forward(self, x, feat_cache, feat_idx)
    if self.mode == "upsample3d" and x.shape[2] > 1:
        first, rest = x[:, :, :1], self.time_conv(x[:, :, 1:])
        batch, double, length, height, width = rest.shape
        rest = rest.view(batch, 2, double // 2, length, height, width)
        rest = rest.permute(0, 2, 3, 1, 4, 5).reshape(batch, double // 2, -1, height, width)
        x = torch.cat([first, rest], dim=2)
    batch, _, length = x.shape[:3]
    frames = self.resample(x.transpose(1, 2).flatten(0, 1))
    x = frames.unflatten(0, (batch, length)).transpose(1, 2)
    if self.mode == "downsample3d" and length > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)
    return x
