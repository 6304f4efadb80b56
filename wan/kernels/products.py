"""How the linear layers of a block multiply: as they are, or in float8 on cards that can."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn

from ..quantised import QuantisedLinear

FP8 = torch.float8_e4m3fn
_LARGEST = 448.0  # that it can hold
_LEAST = 1e-12
# One product of random numbers, both operands with three bits of mantissa, is 3.4 % away.
_CLOSE = 0.06
_STEP = 16  # sides of a product must be multiples of it


class Product(Protocol):
    """Sends the same input through several layers."""

    def __call__(self, layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
        """[..., in] to one [..., out] per layer, in the type of `x`."""
        ...


def as_loaded(layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Each layer in its own way; see `Product`."""
    return [layer(x) for layer in layers]


def in_fp8(layers: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """Rows of input and weight in float8, each with a scale of its own; see `Product`.

    The weights are brought to float8 when they are used, so that LoRAs, streaming and everything
    else that may change them stay in effect; that takes about a hundredth of the product. Weights
    that are float8 in their file are used as they are.
    """
    rows, scale = _to_fp8(x.flatten(0, -2))
    made = []
    for layer in layers:
        weight, factors = _weight_of(layer, x.dtype)
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        found = torch._scaled_mm(
            rows, weight.t(), scale_a=scale, scale_b=factors.t(), bias=bias, out_dtype=x.dtype
        )
        made.append(found.unflatten(0, x.shape[:-1]))
    return made


@lru_cache
def fp8_problem(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why float8 products cannot be used, or None. Tried by a real one, once per process."""
    if dtype is not torch.bfloat16:
        return f"they give bfloat16, and the weights compute in {str(dtype)[6:]}"
    generator = torch.Generator("cpu").manual_seed(0)
    x, weight = (
        torch.randn(n, 64, generator=generator).to(device, dtype) for n in (2 * _STEP, _STEP)
    )
    layer = nn.Linear(64, _STEP, bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    try:
        (found,) = in_fp8([layer], x)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    expected = x.float() @ weight.float().t()
    distance = float((found.float() - expected).norm() / expected.norm())
    return None if distance < _CLOSE else f"a product of them is {distance:.0%} off"


def _weight_of(layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """[out, in] in float8, and [out, 1] float32 that its rows are to be multiplied with."""
    if not isinstance(layer, QuantisedLinear):
        return _to_fp8(layer.weight)  # type: ignore[arg-type]
    kept = layer.as_fp8()
    return kept if kept is not None else _to_fp8(layer.decoded(dtype))


def _to_fp8(values: Tensor) -> tuple[Tensor, Tensor]:
    scale = torch.linalg.vector_norm(
        values, ord=float("inf"), dim=-1, keepdim=True, dtype=torch.float32
    )
    scale = scale.clamp_min_(_LEAST).div_(_LARGEST)
    return (values / scale).to(FP8), scale
