"""The fused steps as calls of PyTorch, for every device.

Where the type is float32 they work in place on what they are given; in 16 bits they compute in
float32 beside it and round once.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FEW = 1 << 16  # numbers


def normalise(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """See `fused.normalise`."""
    if x.dtype is torch.float32 or x.device.type == "cpu":  # the CPU's kernel mixes types
        return torch.layer_norm(x, scale.shape, scale, shift, eps)
    return torch.layer_norm(x.float(), scale.shape, scale, shift, eps).to(x.dtype)


def gated_add(x: Tensor, change: Tensor, gate: Tensor | None) -> None:
    """See `fused.gated_add`."""
    if gate is None:
        x.add_(change)
    elif x.dtype is torch.float32:
        x.addcmul_(change, gate)
    else:
        x.copy_(torch.addcmul(x.float(), change.float(), gate))


def add_and_normalise(
    x: Tensor, change: Tensor, gate: Tensor | None, scale: Tensor, shift: Tensor, eps: float
) -> Tensor:
    """See `fused.add_and_normalise`."""
    gated_add(x, change, gate)
    return normalise(x, scale, shift, eps)


def turn(x: Tensor, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """See `fused.turn`; the result is a new tensor."""
    if cos is None or sin is None:
        return torch.rms_norm(x, weight.shape, weight, eps)
    wide = x if x.dtype is torch.float32 else x.float()
    if x.numel() < _FEW:  # few calls count more than few passes
        normed = torch.rms_norm(wide, weight.shape, weight.to(wide.dtype), eps)
    else:
        size = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        shrink = size.square_().div_(x.shape[-1]).add_(eps).rsqrt_()[..., None]  # [1, S, 1, 1]
        normed, cos, sin = torch.mul(wide, weight), cos * shrink, sin * shrink
    pairs = normed.unflatten(-1, (-1, cos.shape[-1], 2))
    turned = turn_as_complex if x.device.type == "cpu" else turn_as_real
    return turned(pairs, cos, sin).flatten(-3).to(x.dtype)


def turn_as_complex(pairs: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs [..., 2] as complex numbers, in place: one pass, where a device has those."""
    return torch.view_as_real(torch.view_as_complex(pairs).mul_(torch.complex(cos, sin)))


def turn_as_real(pairs: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The same for devices that lack complex numbers."""
    first, second = pairs.unbind(-1)
    return torch.stack((first * cos - second * sin, first * sin + second * cos), -1)


def gelu(x: Tensor) -> None:
    """See `fused.gelu`."""
    torch.ops.aten.gelu_(x, approximate="tanh")
