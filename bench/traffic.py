"""What a transformer block moves through memory between its matrix products, counted, not timed.

The block is built on PyTorch's meta device at its true size and run once; every operator's large
inputs and outputs are added up. Matrix products and attention are left out: they are what must be
computed. Views move nothing. A fused step of ours is one operator, as it is one kernel where there
is Triton. In 16 bits, as on a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

TOKENS = 32_760
"""Of 832x480 with 81 frames."""
_LARGE = 50_000_000  # bytes: what is smaller is in no way part of the cost
_COMPUTED = ("mm", "_scaled_mm")
_FREE = ("empty", "empty_like", "detach", "alias")


@dataclass
class Traffic:
    """Sum over one block."""

    nbytes: int = 0
    kernels: int = 0
    by_name: dict[str, int] = field(default_factory=dict)


class Counter(TorchDispatchMode):
    """Adds up what operators read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Traffic()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if func.is_view or name in _FREE or any(part in name for part in _COMPUTED):
            return out
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info and argument.alias_info.is_write
        ]
        given = [t for t in tree_leaves((args, kwargs)) if _is_large(t)]
        new = [t for t in tree_leaves(out) if not any(t is w for w in written)]
        made = [t for t in (*written, *new) if _is_large(t)]
        if given or made:
            moved = sum(map(_moved, given)) + sum(map(_moved, made))
            self.found.nbytes += moved
            self.found.kernels += 1
            self.found.by_name[name] = self.found.by_name.get(name, 0) + moved
        return out


def _moved(tensor: Tensor) -> int:
    """Bytes of what is there: a tensor that was widened without a copy is read as it was."""
    size = tensor.element_size()
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        size *= length if stride else 1
    return size


def _is_large(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.nbytes > _LARGE


def count(work: Callable[[], object]) -> Traffic:
    """The traffic of a call on meta tensors."""
    attention = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda query, *_, **__: torch.empty_like(query)
    try:
        with torch.no_grad(), Counter() as counter:
            work()
    finally:
        functional.scaled_dot_product_attention = attention
    return counter.found


def true_block(dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    """A block of Wan 2.1 I2V 14B on the meta device."""
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

    with torch.device("meta"):
        block = WanTransformerBlock(5120, 13824, 40, cross_attn_norm=True, added_kv_proj_dim=5120)
    for name, parameter in block.named_parameters():
        if not ("norm2" in name or "scale_shift" in name):  # those stay float32
            parameter.data = parameter.data.to(dtype)
    return block.eval().requires_grad_(False)


def own_and_stock(tokens: int = TOKENS) -> tuple[Traffic, Traffic]:
    """Traffic of one block by our forward and by diffusers' own, on the same modules."""
    from wan.kernels import as_loaded
    from wan.sample.attention import scaled_dot_product
    from wan.sample.block import cross_keys, run_block
    from wan.sample.rope import Rotary

    block = true_block()
    meta = {"device": "meta", "dtype": torch.bfloat16}
    x = torch.empty(1, tokens, 5120, **meta)
    context = torch.empty(1, 257 + 512, 5120, **meta)
    modulation = torch.empty(1, 6, 5120, device="meta")
    tables = tuple(torch.empty(1, tokens, 1, 128, device="meta") for _ in range(2))
    rotary = Rotary.of(tables)

    def ours() -> None:
        keys = cross_keys(block.attn2, context, 512, 0)
        run_block(block, [x], [keys], modulation, rotary, scaled_dot_product, as_loaded)

    return count(ours), count(lambda: block(x, context, modulation, tables))


def main() -> None:
    """Print both."""
    for name, found in zip(("ours", "diffusers"), own_and_stock(), strict=True):
        print(f"{name}: {found.nbytes / 1e9:.1f} GB a block in {found.kernels} kernels")
        for kernel, moved in sorted(found.by_name.items(), key=lambda item: -item[1]):
            print(f"  {kernel}: {moved / 1e9:.2f}")


if __name__ == "__main__":
    main()
