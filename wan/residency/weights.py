"""The tensors of a module: where they live while copies of them compute, and patches on them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..deltas import Change, Patches, add_changes, changed_names, changes_of, copied
from ..errors import ModelError
from ..quantised import quantised_layer

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Slot:
    """Where a module holds one of its tensors: one place, or several that share it."""

    places: tuple[tuple[nn.Module, str], ...]
    """Modules and the names that they have for it."""
    is_parameter: bool

    @property
    def tensor(self) -> Tensor:
        """The one that is there."""
        owner, leaf = self.places[0]
        found = owner._parameters[leaf] if self.is_parameter else owner._buffers[leaf]
        assert found is not None  # `slots_of` passes over empty ones
        return found.detach()

    def put(self, value: Tensor) -> None:
        """Put another one there; those who shared it share this one."""
        self.hold(self.wrap(value))

    def wrap(self, value: Tensor) -> Tensor:
        """What `hold` takes: a parameter, if there is one here."""
        # A new one, as the data of one that was read in inference mode cannot be set.
        return nn.Parameter(value, requires_grad=False) if self.is_parameter else value

    def hold(self, tensor: Tensor) -> None:
        """Put there what `wrap` gave, which costs next to nothing."""
        for owner, leaf in self.places:
            (owner._parameters if self.is_parameter else owner._buffers)[leaf] = tensor


def slots_of(module: nn.Module) -> list[Slot]:
    """Every parameter and buffer of a module, shared ones once."""
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    parameters: set[int] = set()
    for owner in module.modules():
        for tensors in (owner._parameters, owner._buffers):
            for leaf, tensor in tensors.items():
                if tensor is not None:
                    places.setdefault(id(tensor), []).append((owner, leaf))
                    if tensors is owner._parameters:
                        parameters.add(id(tensor))
    return [Slot(tuple(found), key in parameters) for key, found in places.items()]


class Homes:
    """Keeps a module's tensors on the CPU while copies of them are on a device.

    Weights are never written, so nothing is ever copied back: leaving the device is forgetting
    the copies. Where they are mapped from a file they cost no memory of their own.
    """

    def __init__(self, module: nn.Module) -> None:
        self._homes = {slot: slot.tensor for slot in slots_of(module)}

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.nbytes for tensor in self._homes.values())

    def missing(self, device: torch.device) -> int:
        """Bytes that `send` would bring to a device."""
        return sum(s.tensor.nbytes for s in self._homes if not is_on(s.tensor, device))

    def send(self, device: torch.device, without: Collection[Slot] = ()) -> None:
        """Bring copies to a device, of tensors that are not there already."""
        for slot in self._homes:
            if slot not in without and not is_on(slot.tensor, device):
                slot.put(slot.tensor.to(device))

    def back(self) -> None:
        """Let go of all copies."""
        for slot, home in self._homes.items():
            slot.put(home)

    def move(self, slot: Slot, home: Tensor) -> None:
        """Let a tensor live in another place, which holds the same numbers."""
        self._homes[slot] = home
        slot.put(home)


def is_on(tensor: Tensor, device: torch.device) -> bool:
    """Whether a tensor is there; a device without an index is any of its type."""
    here = tensor.device
    return here.type == device.type and device.index in (None, here.index)


class PatchedWeights:
    """The parameters of a module: what was loaded, or that with patches on it.

    The originals of changed parameters are kept on the CPU, which costs nothing where they are
    mapped from a file. A patched parameter is computed in float32 on the device it goes to, one
    at a time, and rounded once. Quantised weights stay as they are; their layers add the changes
    in every forward. Patches name a quantised weight as if it were a plain parameter.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.patches: Patches = ()
        self._originals: dict[str, Tensor] = {}
        self._quantised: set[str] = set()

    def apply(
        self,
        patches: Patches,
        device: torch.device | None = None,
        names: Collection[str] | None = None,
    ) -> None:
        """Make these the patches that are on the weights; does nothing if they already are.

        Args:
            patches: may be empty.
            device: where changed parameters go; None: where each is.
            names: the only parameters to change; None: all that the patches name.
        Raises:
            ModelError: a parameter's type cannot be changed. The weights are then unpatched, as
                after any other exception in here.
        """
        if patches == self.patches:
            return
        self.restore()
        try:
            for name in changed_names(patches):
                if names is None or name in names:
                    self._change(name, changes_of(patches, name), device)
        except BaseException:
            self.restore()
            raise
        self.patches = patches

    def restore(self, device: torch.device | None = None) -> None:
        """Put the originals back; `device` None: where their changed versions are."""
        for name, original in self._originals.items():
            self._put(name, original.to(device or self.module.get_parameter(name).device))
        for name in self._quantised:
            layer = quantised_layer(self.module, name)
            if layer is not None:
                layer.changes = ()
        self._originals.clear()
        self._quantised.clear()
        self.patches = ()

    def _change(self, name: str, changes: tuple[Change, ...], device: torch.device | None) -> None:
        layer = quantised_layer(self.module, name)
        if layer is not None:
            place = device or layer.stored.device
            layer.changes = copied(changes, lambda tensor: tensor.to(place))
            self._quantised.add(name)
            return
        weight = self.module.get_parameter(name).detach()
        expect_changeable(name, weight)
        total = weight.to(device or weight.device, torch.float32, copy=True)
        total = add_changes(total, changes)
        self._originals[name] = weight.to(CPU)
        self._put(name, total.to(weight.dtype))

    def _put(self, name: str, value: Tensor) -> None:
        owner, _, leaf = name.rpartition(".")
        parameter = nn.Parameter(value, requires_grad=False)
        self.module.get_submodule(owner)._parameters[leaf] = parameter


def expect_changeable(name: str, weight: Tensor) -> None:
    """Refuse to add to numbers that are coarser than what is added.

    Raises:
        ModelError: the weight is of a quantised type that no layer of ours decodes.
    """
    if not weight.is_floating_point() or weight.element_size() < 2:
        raise ModelError(
            what=f"A LoRA cannot be added to '{name}', which is stored as "
            f"{str(weight.dtype).removeprefix('torch.')}.",
            why="Its changes are smaller than the steps of a quantised weight.",
            fix="Load the bf16 or fp16 file of the model, or remove the LoRA.",
        )
