"""Linear layers whose weight stays as small in memory as it is in its file.

Quantisation is storage only: each forward brings the weight to the type of its input, so what is
computed runs on every device, and an fp8 matrix product is never needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from .deltas import Change, add_changes

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

    `weight` is None, which transformers understands as "of no type".

    Args:
        linear: the layer it takes the place of; its bias is taken over.
        stored: [out, in] in float8, or [out, bytes of a row] uint8 for GGML types.
        quantisation: how to read it.
    """

    def __init__(self, linear: nn.Linear, stored: Tensor, quantisation: Quantisation) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_parameter("weight", None)
        self.register_parameter("stored", nn.Parameter(stored, requires_grad=False))
        self.register_parameter("bias", linear.bias)
        self.register_buffer("rows", quantisation.rows)
        self._factor, self._ggml = quantisation.factor, quantisation.ggml
        self.changes: tuple[Change, ...] = ()
        """Added to the weight in every forward, in float32, before it is rounded: the weight stays
        as small as it is. Their tensors are on the device of `stored` while it computes."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out] in the type of `x`."""
        bias = self.bias if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, self.decoded(x.dtype), bias)

    def decoded(self, dtype: torch.dtype) -> Tensor:
        """The weight with its changes, [out, in], in `dtype`; rounded once."""
        quantisation = Quantisation(self._factor, self.rows, self._ggml)
        if not self.changes:
            return quantisation.decode(self.stored.detach(), dtype)
        weight = quantisation.decode(self.stored.detach(), torch.float32)
        return add_changes(weight, self.changes).to(dtype)

    def as_fp8(self) -> tuple[Tensor, Tensor] | None:
        """The stored weight where it is float8 (e4m3) already and nothing is added to it.

        Returns:
            [out, in] float8 and [out, 1] float32, what each row is to be multiplied with.
        """
        if self.changes or self._ggml or self.stored.dtype is not torch.float8_e4m3fn:
            return None
        rows = self.stored.new_ones(self.out_features, 1, dtype=torch.float32)
        return self.stored.detach(), rows * self._factor * (1 if self.rows is None else self.rows)


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
