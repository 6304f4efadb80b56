"""The fused steps as operators of PyTorch: one each for whoever counts, compiles or profiles."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from . import eager
from .choice import choose

_SPACE = "wan_local"
_SCHEMAS = {
    "normalise": "(Tensor x, Tensor scale, Tensor shift, float eps) -> Tensor",
    "gated_add": "(Tensor(a!) x, Tensor change, Tensor? gate) -> ()",
    "add_and_normalise": "(Tensor(a!) x, Tensor change, Tensor? gate, Tensor scale, Tensor shift, "
    "float eps) -> Tensor",
    "turn": "(Tensor(a!) x, Tensor weight, float eps, Tensor? cos, Tensor? sin) -> ()",
    "gelu": "(Tensor(a!) x) -> ()",
}


@lru_cache
def operators() -> Any:
    """torch.ops.wan_local: the functions of `fused` by their names. Those that work in place, `turn`
    too, give nothing back. Registered at the first use; the pack may be imported by two names."""
    library = torch.library.Library(_SPACE, "FRAGMENT")
    _kept.append(library)  # its operators go with it
    for name, schema in _SCHEMAS.items():
        if not hasattr(getattr(torch.ops, _SPACE), name):
            library.define(name + schema)
            library.impl(name, _Computed(name), "CompositeExplicitAutograd")
            library.impl(name, _new if schema.endswith("Tensor") else _in_place, "Meta")
    return getattr(torch.ops, _SPACE)


_kept: list[torch.library.Library] = []


class _Computed:
    """One operator on real tensors."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, x: Tensor, *others: Any) -> Any:
        made = getattr(_computing(choose(x.device.type)), self._name)(x, *others)
        if self._name != "turn":
            return made
        if made is not x:  # an operator that works in place gives nothing back
            x.copy_(made)
        return None


def _new(x: Tensor, *others: Any) -> Tensor:
    """On the meta device, what makes a new tensor."""
    return torch.empty_like(x)


def _in_place(x: Tensor, *others: Any) -> None:
    """On the meta device, what changes `x`."""


@lru_cache
def _computing(kind: str) -> Any:
    if kind == "triton":
        from . import triton_kernels

        return triton_kernels
    return _Compiled(eager) if kind == "compile" else eager


class _Compiled:
    """The functions of a module, each compiled when it is first called."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        made = torch.compile(getattr(self._module, name), dynamic=True)
        setattr(self, name, made)
        return made
