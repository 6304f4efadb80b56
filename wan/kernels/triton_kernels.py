"""The fused steps as Triton kernels: each reads and writes its tensors once.

One program works on one token (a row of all channels), in float32. Tensors that do not lie in one
piece, which never happens in a transformer block, are left to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import eager

_WIDE = 4096  # channels from which a row is worth more warps
_PIECE = 4096  # numbers that one program of an elementwise kernel works on


@triton.jit
def _normalised(v, mask, scale, shift, at, channels, eps):  # noqa: ANN001
    mean = tl.sum(v, 0) / channels
    centred = tl.where(mask, v - mean, 0.0)
    spread = tl.sum(centred * centred, 0) / channels
    factors = tl.load(scale + at, mask=mask, other=0.0).to(tl.float32)
    offsets = tl.load(shift + at, mask=mask, other=0.0).to(tl.float32)
    return centred * (1.0 / tl.sqrt(spread + eps)) * factors + offsets


@triton.jit
def _normalise(x, out, scale, shift, channels, eps, BLOCK: tl.constexpr):  # noqa: ANN001
    start = tl.program_id(0).to(tl.int64) * channels
    at = tl.arange(0, BLOCK)
    mask = at < channels
    v = tl.load(x + start + at, mask=mask, other=0.0).to(tl.float32)
    made = _normalised(v, mask, scale, shift, at, channels, eps)
    tl.store(out + start + at, made.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _add(
    x,  # noqa: ANN001
    change,  # noqa: ANN001
    gate,  # noqa: ANN001
    out,  # noqa: ANN001
    scale,  # noqa: ANN001
    shift,  # noqa: ANN001
    channels,  # noqa: ANN001
    eps,  # noqa: ANN001
    GATED: tl.constexpr,
    NORMALISED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    start = tl.program_id(0).to(tl.int64) * channels
    at = tl.arange(0, BLOCK)
    mask = at < channels
    added = tl.load(change + start + at, mask=mask, other=0.0).to(tl.float32)
    if GATED:
        added *= tl.load(gate + at, mask=mask, other=0.0).to(tl.float32)
    v = tl.load(x + start + at, mask=mask, other=0.0).to(tl.float32) + added
    tl.store(x + start + at, v.to(x.dtype.element_ty), mask=mask)
    if NORMALISED:
        made = _normalised(v, mask, scale, shift, at, channels, eps)
        tl.store(out + start + at, made.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _turn(
    x,  # noqa: ANN001
    weight,  # noqa: ANN001
    cos,  # noqa: ANN001
    sin,  # noqa: ANN001
    channels,  # noqa: ANN001
    eps,  # noqa: ANN001
    HALF: tl.constexpr,
    TURNED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    pair = tl.arange(0, BLOCK)
    mask = pair < channels // 2
    first = x + token * channels + 2 * pair
    a = tl.load(first, mask=mask, other=0.0).to(tl.float32)
    b = tl.load(first + 1, mask=mask, other=0.0).to(tl.float32)
    shrink = 1.0 / tl.sqrt(tl.sum(a * a + b * b, 0) / channels + eps)
    a *= shrink * tl.load(weight + 2 * pair, mask=mask, other=0.0).to(tl.float32)
    b *= shrink * tl.load(weight + 2 * pair + 1, mask=mask, other=0.0).to(tl.float32)
    if TURNED:
        angle = token * HALF + pair % HALF
        c = tl.load(cos + angle, mask=mask, other=0.0)
        s = tl.load(sin + angle, mask=mask, other=0.0)
        turned = a * c - b * s
        b = a * s + b * c
        a = turned
    tl.store(first, a.to(x.dtype.element_ty), mask=mask)
    tl.store(first + 1, b.to(x.dtype.element_ty), mask=mask)


@triton.jit
def _gelu(x, count, BLOCK: tl.constexpr):  # noqa: ANN001
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    v = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    # v / 2 * (1 + tanh(u)) is v * sigmoid(2 u)
    doubled = 1.5957691216057308 * (v + 0.044715 * v * v * v)
    tl.store(x + at, (v * tl.sigmoid(doubled)).to(x.dtype.element_ty), mask=mask)


def normalise(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """See `fused.normalise`."""
    if not _lies_well(x):
        return eager.normalise(x, scale, shift, eps)
    out = torch.empty_like(x)
    _by_row(_normalise, x, (x, out, scale, shift, x.shape[-1], eps))
    return out


def gated_add(x: Tensor, change: Tensor, gate: Tensor | None) -> None:
    """See `fused.gated_add`."""
    if not _lies_well(x, change):
        eager.gated_add(x, change, gate)
        return
    given = (x, change, x if gate is None else gate, x, x, x, x.shape[-1], 0.0)
    _by_row(_add, x, given, GATED=gate is not None, NORMALISED=False)


def add_and_normalise(
    x: Tensor, change: Tensor, gate: Tensor | None, scale: Tensor, shift: Tensor, eps: float
) -> Tensor:
    """See `fused.add_and_normalise`."""
    if not _lies_well(x, change):
        return eager.add_and_normalise(x, change, gate, scale, shift, eps)
    out = torch.empty_like(x)
    given = (x, change, x if gate is None else gate, out, scale, shift, x.shape[-1], eps)
    _by_row(_add, x, given, GATED=gate is not None, NORMALISED=True)
    return out


def turn(x: Tensor, weight: Tensor, eps: float, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """See `fused.turn`; in place where `x` lies in one piece."""
    turned = cos is not None and sin is not None
    if not _lies_well(x, *([cos, sin] if turned else [])):  # type: ignore[list-item]
        return eager.turn(x, weight, eps, cos, sin)
    half = cos.shape[-1] if cos is not None else 1
    given = (x, weight, cos if turned else x, sin if turned else x, x.shape[-1], eps)
    _by_row(_turn, x, given, width=x.shape[-1] // 2, HALF=half, TURNED=turned)
    return x


def gelu(x: Tensor) -> None:
    """See `fused.gelu`."""
    if not _lies_well(x):
        eager.gelu(x)
        return
    with _on(x):
        _gelu[(triton.cdiv(x.numel(), _PIECE),)](x, x.numel(), BLOCK=_PIECE)


def _by_row(
    kernel: Callable[..., Any], x: Tensor, given: tuple[Any, ...], width: int = 0, **choices: Any
) -> None:
    width = width or x.shape[-1]
    block = triton.next_power_of_2(width)
    rows = x.numel() // x.shape[-1]
    with _on(x):
        kernel[(rows,)](*given, **choices, BLOCK=block, num_warps=8 if width >= _WIDE // 2 else 4)


def _lies_well(*tensors: Tensor) -> bool:
    return all(tensor.is_contiguous() for tensor in tensors)


def _on(x: Tensor) -> AbstractContextManager[Any]:
    """Kernels start on the current device, which need not be that of `x`."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()
