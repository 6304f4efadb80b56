"""What is added to weights: changes of parameters, and the LoRAs they come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change of one parameter, kept as its two factors: `alpha / rank * up @ down`."""

    up: Tensor
    """[out, rank], with further axes of length 1 for a convolution."""
    down: Tensor
    """[rank, in, ...]; the axes after the first are those of the parameter."""
    alpha: float | None = None
    """None: the factors carry their scale, as if alpha were the rank."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it keeps in memory."""
        return self.up, self.down

    def holding(self, tensors: Sequence[Tensor]) -> LowRank:
        """The same change with copies of its tensors."""
        up, down = tensors
        return replace(self, up=up, down=down)

    def scaled(self, strength: float, like: Tensor) -> Tensor:
        """`strength` times the change, float32, on the device and in the shape of `like`."""
        up, down = (t.to(like.device, torch.float32).flatten(1) for t in (self.up, self.down))
        scale = 1.0 if self.alpha is None else self.alpha / len(down)
        return torch.mm(up, down).reshape(like.shape).mul_(strength * scale)


@dataclass(frozen=True, eq=False)
class Full:
    """A change of one parameter, number by number."""

    diff: Tensor
    """In the parameter's shape."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What it keeps in memory."""
        return (self.diff,)

    def holding(self, tensors: Sequence[Tensor]) -> Full:
        """The same change with a copy of its tensor."""
        return replace(self, diff=tensors[0])

    def scaled(self, strength: float, like: Tensor) -> Tensor:
        """`strength` times the change, float32, on the device and in the shape of `like`."""
        return self.diff.to(like.device, torch.float32).reshape(like.shape) * strength


Delta = LowRank | Full


@dataclass(frozen=True)
class WeightPatch:
    """What one LoRA changes at one strength. Equal patches change the same by the same."""

    name: str
    """For logs."""
    identity: tuple[Any, ...]
    """Where the changes come from, so that they need not be compared: path, time and size."""
    strength: float
    """Multiplies everything."""
    deltas: Mapping[str, Sequence[Delta]] = field(compare=False, repr=False)
    """By name of the module's parameter."""


Patches = tuple[WeightPatch, ...]
"""In the order they were added."""

Change = tuple[float, Delta]
"""A change and what multiplies it."""


def changed_names(patches: Patches) -> list[str]:
    """Names of all parameters that any of the patches changes."""
    return list(dict.fromkeys(name for patch in patches for name in patch.deltas))


def changes_of(patches: Patches, name: str) -> tuple[Change, ...]:
    """What patches do to one parameter, in their order."""
    return tuple(
        (patch.strength, delta) for patch in patches for delta in patch.deltas.get(name, ())
    )


def change_bytes(patches: Patches, names: Collection[str]) -> int:
    """Bytes that patches keep beside the weights of these names, those of quantised layers."""
    changed = (name for name in changed_names(patches) if name in names)
    changes = (delta for name in changed for _, delta in changes_of(patches, name))
    return sum(tensor.nbytes for delta in changes for tensor in delta.tensors)


def copied(changes: Sequence[Change], copy: Callable[[Tensor], Tensor]) -> tuple[Change, ...]:
    """The same changes with copies of their tensors."""
    return tuple((s, delta.holding([copy(t) for t in delta.tensors])) for s, delta in changes)


def add_changes(weight: Tensor, changes: Sequence[Change]) -> Tensor:
    """Add changes to a float32 weight in place, one after the other; gives it back."""
    for strength, delta in changes:
        weight += delta.scaled(strength, weight)
    return weight
