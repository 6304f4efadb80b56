"""Records as JSON and tensors, to hand them to another process without pickle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor


def pack(value: Any, tensors: list[Tensor]) -> Any:
    """What `json.dumps` can write of a value.

    Args:
        value: of numbers, texts, tuples, enums, frozen records and tensors.
        tensors: gets those of the value, contiguous and on the CPU.
    Raises:
        TypeError: there is something else in it.
    """
    if value is None or isinstance(value, bool | int | float) or type(value) is str:
        return value
    if isinstance(value, Tensor):
        tensors.append(value.detach().cpu().contiguous())
        return {"tensor": len(tensors) - 1}
    if isinstance(value, tuple | list):
        return [pack(item, tensors) for item in value]
    if isinstance(value, Enum):
        return {"enum": type(value).__name__, "name": value.name}
    if is_dataclass(value):
        held = {field.name: pack(getattr(value, field.name), tensors) for field in fields(value)}
        return {"record": type(value).__name__, "fields": held}
    raise TypeError(f"{type(value).__name__} cannot be handed to another process")


def unpack(packed: Any, tensors: Sequence[Tensor], types: Collection[type]) -> Any:
    """The value that `pack` was given; lists come back as tuples.

    Args:
        packed: from `pack`.
        tensors: those that it gave, in their order.
        types: the records and enums that there may be.
    Raises:
        KeyError: there is another one.
    """
    if isinstance(packed, list):
        return tuple(unpack(item, tensors, types) for item in packed)
    if not isinstance(packed, dict):
        return packed
    if "tensor" in packed:
        return tensors[packed["tensor"]]
    known = {kind.__name__: kind for kind in types}
    if "enum" in packed:
        return known[packed["enum"]][packed["name"]]
    held = {name: unpack(item, tensors, types) for name, item in packed["fields"].items()}
    return known[packed["record"]](**held)


def describe(tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
    """Types and shapes, for `empty_like` them elsewhere."""
    return [{"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape)} for t in tensors]


def allocate(descriptions: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Room for tensors that `describe` described."""
    return [torch.empty(d["shape"], dtype=getattr(torch, d["dtype"])) for d in descriptions]
