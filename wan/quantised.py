"""Linear layers whose weight stays as small in memory as it is in its file.

Quantisation is storage only: each forward brings the weight to the type of its input, so what is
computed runs on every device, and an fp8 matrix product is never needed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@dataclass(frozen=True, eq=False)
class Quantisation:
    """How numbers come out of a stored weight."""

    factor: float = 1.0
    """Multiplies every number."""
    rows: Tensor | None = None
    """[out, 1] float32: multiplies row by row."""
    ggml: str = ""
    """A block type of GGUF files such as "Q4_K"; the stored weight is uint8 then. Empty: the
    stored weight is an ordinary tensor, for example float8."""

    def decode(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        """The weight, in `dtype`, on the device of `stored`; rounded once."""
        if self.ggml:
            return _decode_ggml(stored, self.ggml).to(dtype)
        if self.rows is not None:
            return (stored.float() * (self.rows.to(stored.device) * self.factor)).to(dtype)
        # float8 fits into every type that is computed in, so only the product is rounded
        weight = stored.to(dtype)
        return weight if self.factor == 1 else weight * self.factor


class QuantisedLinear(nn.Module):
    """`nn.Linear` with a quantised weight.

    `weight` is None, which transformers understands as "of no type", unless a patched weight took
    the place of the stored one.

    Args:
        linear: the layer it takes the place of; its bias is taken over.
        stored: [out, in] in float8, or [out, bytes of a row] uint8 for GGML types.
        quantisation: how to read it.
        dtype: of the weight once it is patched.
    """

    def __init__(
        self, linear: nn.Linear, stored: Tensor, quantisation: Quantisation, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = dtype
        self.register_parameter("weight", None)
        self.register_parameter("stored", nn.Parameter(stored, requires_grad=False))
        self.register_parameter("bias", linear.bias)
        self.register_buffer("rows", quantisation.rows)
        self._factor, self._ggml = quantisation.factor, quantisation.ggml

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out] in the type of `x`."""
        weight = self.decoded(x.dtype) if self.weight is None else self.weight.to(x.dtype)
        bias = self.bias if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, weight, bias)

    def decoded(self, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
        """The stored weight, [out, in], in `dtype`; `device` None: where it is."""
        quantisation = Quantisation(self._factor, self.rows, self._ggml)
        stored = self.stored.detach()
        return quantisation.decode(stored if device is None else stored.to(device), dtype)

    def patch(self, weight: Tensor) -> Tensor:
        """Compute with `weight`, [out, in], from now on.

        Returns:
            What was stored, for `unpatch`.
        """
        stored = self.stored.detach()
        self.weight, self.stored = nn.Parameter(weight.to(self.dtype), requires_grad=False), None
        return stored

    def unpatch(self, stored: Tensor) -> None:
        """Compute with what `patch` returned again."""
        self.weight, self.stored = None, nn.Parameter(stored, requires_grad=False)


def quantised_layer(module: nn.Module, name: str) -> QuantisedLinear | None:
    """The layer whose weight the parameter `name` of `module` is, if that is quantised."""
    owner, _, leaf = name.rpartition(".")
    layer = module.get_submodule(owner) if leaf == "weight" else None
    return layer if isinstance(layer, QuantisedLinear) else None


def quantised_names(module: nn.Module) -> list[str]:
    """Names that the quantised weights of a module would have were they plain parameters."""
    return [
        f"{name}.weight" if name else "weight"
        for name, layer in module.named_modules()
        if isinstance(layer, QuantisedLinear)
    ]


def patched_bytes(module: nn.Module, names: Collection[str]) -> int:
    """Bytes that patches on weights of these names add: quantised ones get their full size."""
    layers = [layer for name in names if (layer := quantised_layer(module, name))]
    full = sum(layer.out_features * layer.in_features * layer.dtype.itemsize for layer in layers)
    return full - sum(layer.stored.nbytes for layer in layers if layer.stored is not None)


@cache
def holds_fp8(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device can keep float8 and bring it to `dtype`. Asked, not guessed: it is tried."""
    try:
        for kind in FP8:
            torch.ones(8, dtype=kind).to(device).to(dtype).sum().item()
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return True


def _decode_ggml(stored: Tensor, kind: str) -> Tensor:
    import gguf
    from diffusers.quantizers.gguf.utils import dequantize_functions

    ggml_type = gguf.GGMLQuantizationType[kind]
    block_size, type_size = gguf.GGML_QUANT_SIZES[ggml_type]
    blocks = stored.reshape(-1, type_size)
    # in float32: their scales are float16, which bfloat16 would cut
    numbers = dequantize_functions[ggml_type](blocks, block_size, type_size, torch.float32)
    return numbers.reshape(len(stored), -1)
