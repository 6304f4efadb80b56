"""The fused steps: one name each, whatever computes them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import eager
from .choice import wanted


def normalise(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Layer norm over channels, then times `scale` plus `shift`.

    Args:
        x: [1, tokens, channels].
        scale, shift: [channels] float32: what modulation or the norm's own weights give.
        eps: of the norm.
    Returns:
        A new tensor of the type of `x`.
    """
    return _implementation(x).normalise(x, scale, shift, eps)


def gated_add(x: Tensor, change: Tensor, gate: Tensor | None) -> None:
    """`x += change * gate`, in place.

    Args:
        x: [1, tokens, channels].
        change: likewise.
        gate: [channels] float32; None: 1.
    """
    _implementation(x).gated_add(x, change, gate)


def add_and_normalise(
    x: Tensor, change: Tensor, gate: Tensor | None, scale: Tensor, shift: Tensor, eps: float
) -> Tensor:
    """`gated_add`, then `normalise` of the sum."""
    return _implementation(x).add_and_normalise(x, change, gate, scale, shift, eps)


def turn(
    x: Tensor, weight: Tensor, eps: float, cos: Tensor | None = None, sin: Tensor | None = None
) -> Tensor:
    """RMS norm over all channels, then rotary positions per head.

    Args:
        x: [1, tokens, heads * head_dim], queries or keys; not to be used afterwards, since the
            result may lie in its place.
        weight: [heads * head_dim], of the norm.
        eps: of the norm.
        cos, sin: [1, tokens, 1, head_dim / 2] float32, of the angle by which each pair of
            neighbouring channels is turned; None leaves positions out.
    Returns:
        Likewise, in the type of `x`.
    """
    turned = _implementation(x).turn(x, weight, eps, cos, sin)
    return x if turned is None else turned


def gelu(x: Tensor) -> None:
    """GELU in its tanh approximation, in place."""
    _implementation(x).gelu(x)


def _implementation(x: Tensor) -> Any:
    if x.device.type == "cpu" and wanted() in ("auto", "eager", "triton"):
        return eager
    from .ops import operators

    return operators()
