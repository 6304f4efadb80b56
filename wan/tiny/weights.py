"""Random weights that behave: outputs of ordinary size that react to every input.

Each tensor has a seed of its own, made from its name, so that a change to one model leaves the
others as they are. numpy's legacy generator gives the same numbers on every platform and version.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Weights of the taps of a causal temporal kernel, oldest first: the newest frame rules, which
# keeps the variance through the zero padding of the first frame (tiny_training.md 3)
_TAPS = (0.1, 0.1, 1.0)
_RESIDUAL = 0.5  # second convolution of a residual block, so that the input shows through
# Measured so that decode(randn) has a standard deviation near 0.25 and latents one near 1.
_DECODER_GAIN = 0.35
_ENCODER_GAIN = 1.6
_FLOW_GAIN = 0.1
# Sharp enough that a dozen words count among 512 text tokens, most of them padding.
_CROSS_ATTENTION_SHARPNESS = 2.0


def noise(seed_text: str, shape: Iterable[int]) -> Tensor:
    """Standard normal float32 numbers that depend on the text alone."""
    generator = np.random.RandomState(zlib.crc32(seed_text.encode("utf-8")))
    return torch.from_numpy(generator.standard_normal(tuple(shape)).astype(np.float32))


def random_tensors(part: str, module: nn.Module) -> dict[str, Tensor]:
    """Weights for all parameters of a module that was made on the meta device.

    Args:
        part: name of the model; part of every seed.
        module: a Wan transformer, UMT5 or CLIP vision encoder.
    """
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    return {name: _plain(name, noise(f"{part}/{name}", s)) for name, s in shapes.items()}


def random_vae(part: str, module: nn.Module) -> dict[str, Tensor]:
    """Weights for `AutoencoderKLWan`, with its latent statistics folded into the outer layers."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        tensors[name] = _vae_tensor(name, noise(f"{part}/{name}", parameter.shape))
    config: Any = module.config
    mean = torch.tensor(config["latents_mean"])
    std = torch.tensor(config["latents_std"])
    # encode: the first half is the mean, the second the log-variance, which nobody samples from
    scale = torch.cat([std, torch.full_like(std, 0.05)])
    tensors["quant_conv.weight"] *= scale[:, None, None, None, None]
    tensors["quant_conv.bias"] = torch.cat([mean, torch.full_like(mean, -7.0)])
    # decode: undo what the caller's denormalisation did
    weight = tensors["post_quant_conv.weight"] / std[None, :, None, None, None]
    tensors["post_quant_conv.weight"] = weight
    tensors["post_quant_conv.bias"] = -weight[:, :, 0, 0, 0] @ mean
    return tensors


def random_rife(part: str, module: nn.Module) -> dict[str, Tensor]:
    """Weights for a RIFE network whose flow is a few pixels long, so that pictures stay pictures."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        values = _plain(name, noise(f"{part}/{name}", parameter.shape))
        if name.endswith("beta"):
            values = 1 + 0.1 * values
        elif ".lastconv." in name:
            values = _FLOW_GAIN * values
        tensors[name] = values
    return tensors


def _plain(name: str, values: Tensor) -> Tensor:
    leaf = name.rpartition(".")[2]
    if leaf == "bias":
        return values * 0.05
    if ".attn2.norm_" in name:  # query and key norms of the cross-attention
        return _CROSS_ATTENTION_SHARPNESS * (1 + 0.1 * values)
    if "norm" in name and values.ndim == 1:
        return 1 + 0.1 * values
    if leaf == "scale_shift_table":
        return values / math.sqrt(values.shape[-1])
    if name == "shared.weight" or leaf in ("padding_tokens", "class_embedding"):
        return values
    if "position_embedding" in name or leaf == "pos_embed":
        return 0.5 * values
    if name.endswith("time_embedder.linear_1.weight"):
        return _slow(values)
    if name.startswith("motion_encoder."):
        return values  # its layers divide by the root of their inputs themselves
    if "SelfAttention.q" in name:
        # T5 does not scale its attention (Wan-Video/Wan2.1 wan/modules/t5.py, init_weights)
        return values / values.shape[1]
    return values / math.sqrt(math.prod(values.shape[1:]))


def _slow(values: Tensor) -> Tensor:
    """Let the slow waves of the time embedding rule, so that neighbouring steps are alike."""
    half = values.shape[1] // 2  # cosines, then sines; 10000^(-i/half) radians per timestep
    speed = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    damping = (1 / (1 + 100 * speed)).float().repeat(2)
    return values * damping * (2 / math.sqrt(values.shape[1]))


def _vae_tensor(name: str, values: Tensor) -> Tensor:
    if name.endswith("gamma"):
        return 1 + 0.1 * values
    if name.endswith("bias"):
        return 0.02 * values
    if values.ndim == 5 and values.shape[2] == 3:
        values = values * torch.tensor(_TAPS)[None, None, :, None, None]
        fan_in = values.shape[1] * values.shape[3] * values.shape[4]
    else:
        fan_in = math.prod(values.shape[1:])
    gain = 1.0
    if ".conv2." in name or name.endswith("attentions.0.proj.weight"):
        gain = _RESIDUAL
    elif name == "decoder.conv_out.weight":
        gain = _DECODER_GAIN
    elif name == "encoder.conv_out.weight":
        gain = _ENCODER_GAIN
    return values * (gain / math.sqrt(fan_in))
