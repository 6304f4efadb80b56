"""Who owns a model's weights, where they are while they compute, and what is added to them.

The stages never move a module themselves: they ask a `Part` for it. Outside ComfyUI a
`DevicePlacement` moves whole modules; inside, the node layer brings a placement of its own
that hands every module to the host's memory manager.

A LoRA is a `WeightPatch`. `Part.patched` gives another part of the same module: whichever part is
asked, the module comes with exactly that part's patches on its weights, and a weight without
patches is bit for bit the one that was loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from dataclasses import dataclass, field
from threading import Condition, Lock, get_ident
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from .errors import ModelError
from .quantised import quantised_layer

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change of one parameter, kept as its two factors: `alpha / rank * up @ down`."""

    up: Tensor
    """[out, rank], with further axes of length 1 for a convolution."""
    down: Tensor
    """[rank, in, ...]; the axes after the first are those of the parameter."""
    alpha: float | None = None
    """None: the factors carry their scale, as if alpha were the rank."""

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


def changed_names(patches: Patches) -> list[str]:
    """Names of all parameters that any of the patches changes."""
    return list(dict.fromkeys(name for patch in patches for name in patch.deltas))


class Owned(Protocol):
    """A module in somebody's care."""

    def on_device(
        self, memory_required: int, patches: Patches = ()
    ) -> AbstractContextManager[nn.Module]:
        """The module with its weights ready to compute.

        Args:
            memory_required: bytes that the work will need beside the weights.
            patches: what is on the weights inside the block, and nothing else.
        """
        ...

    def release(self) -> None:
        """Take the weights off the device, unless they are in use; the next use brings them back."""
        ...


class Placement(Protocol):
    """Decides where modules live and compute."""

    device: torch.device
    """Where forwards run."""

    def own(self, module: nn.Module, name: str) -> Owned:
        """Take a freshly loaded module (weights on the CPU) into care; `name` is for logs."""
        ...


class PatchedWeights:
    """The parameters of a module: what was loaded, or that with patches on it.

    The originals of changed parameters are kept on the CPU, which costs nothing where they are
    mapped from a file. A patched parameter is computed in float32 on the device it goes to, one
    at a time, and rounded once: to its own type, or to the type its layer computes in if it was
    quantised. Patches name a quantised weight as if it were a plain parameter.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._patches: Patches = ()
        self._originals: dict[str, Tensor] = {}

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
        if patches == self._patches:
            return
        self.restore()
        try:
            for name in changed_names(patches):
                if names is None or name in names:
                    self._change(name, patches, device)
        except BaseException:
            self.restore()
            raise
        self._patches = patches

    def restore(self, device: torch.device | None = None) -> None:
        """Put the originals back; `device` None: where their changed versions are."""
        for name, original in self._originals.items():
            self._put(name, original.to(device or self.module.get_parameter(name).device))
        self._originals.clear()
        self._patches = ()

    def _change(self, name: str, patches: Patches, device: torch.device | None) -> None:
        layer = quantised_layer(self.module, name)
        if layer is not None:
            total = self._total(layer.decoded(torch.float32, device), name, patches)
            self._originals[name] = layer.patch(total).to("cpu")
            return
        weight = self.module.get_parameter(name).detach()
        if not weight.is_floating_point() or weight.element_size() < 2:
            raise ModelError(
                what=f"A LoRA cannot be added to '{name}', which is stored as "
                f"{str(weight.dtype).removeprefix('torch.')}.",
                why="Its changes are smaller than the steps of a quantised weight.",
                fix="Load the bf16 or fp16 file of the model, or remove the LoRA.",
            )
        total = weight.to(device or weight.device, torch.float32, copy=True)
        total = self._total(total, name, patches)
        self._originals[name] = weight.to("cpu")
        self._put(name, total.to(weight.dtype))

    @staticmethod
    def _total(weight: Tensor, name: str, patches: Patches) -> Tensor:
        for patch in patches:
            for delta in patch.deltas.get(name, ()):
                weight += delta.scaled(patch.strength, weight)
        return weight

    def _put(self, name: str, value: Tensor) -> None:
        layer = quantised_layer(self.module, name)
        if layer is not None:
            layer.unpatch(value)
            return
        owner, _, leaf = name.rpartition(".")
        parameter = nn.Parameter(value, requires_grad=False)
        self.module.get_submodule(owner)._parameters[leaf] = parameter


class _User(NamedTuple):
    thread: int
    patches: Patches
    token: object


class Turns:
    """Lets threads that want the same weights of a module use it together; others wait.

    A thread never waits for itself: work inside work gets its own weights, and the outer work
    has its own again when the inner one ends.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._users: list[_User] = []

    @contextmanager
    def take(
        self, patches: Patches, prepare: Callable[[Patches], None], release: Callable[[], None]
    ) -> Iterator[None]:
        """Wait for a turn, and hold it for the length of the block.

        Args:
            patches: those wanted on the weights.
            prepare: readies the weights with these patches; called by one thread at a time.
            release: called when the last user has left.
        """
        user = _User(get_ident(), patches, object())
        with self._changed:
            self._changed.wait_for(lambda: self._may_enter(user))
            try:
                prepare(patches)
            except BaseException:
                if not self._users:
                    release()
                raise
            self._users.append(user)
        try:
            yield
        finally:
            with self._changed:
                # By identity, and by whichever thread: a generator may be closed by another one.
                self._users = [other for other in self._users if other.token is not user.token]
                self._changed.notify_all()
                if not self._users:
                    release()
                elif self._users[-1].patches != patches:
                    prepare(self._users[-1].patches)

    def if_idle(self, action: Callable[[], None]) -> None:
        """Do something while nobody uses the weights, or nothing if somebody does."""
        with self._changed:
            if not self._users:
                action()

    def _may_enter(self, user: _User) -> bool:
        return all(user.thread == o.thread or user.patches == o.patches for o in self._users)


class DevicePlacement:
    """Moves whole modules to one device, and back to the CPU after use if `offload`."""

    def __init__(self, device: str | torch.device = "cpu", offload: bool = True) -> None:
        self.device = torch.device(device)
        self.offload = offload

    def own(self, module: nn.Module, name: str) -> Owned:
        """Keep `module` on the CPU until it is used."""
        return _DeviceOwned(module, self)


class _DeviceOwned:
    def __init__(self, module: nn.Module, placement: DevicePlacement) -> None:
        self._weights = PatchedWeights(module)
        self._placement = placement
        self._turns = Turns()

    @contextmanager
    def on_device(self, memory_required: int, patches: Patches = ()) -> Iterator[nn.Module]:
        with self._turns.take(patches, self._prepare, self._release):
            yield self._weights.module

    def _prepare(self, patches: Patches) -> None:
        self._weights.apply(patches, self._placement.device)
        self._weights.module.to(self._placement.device)

    def release(self) -> None:
        self._turns.if_idle(self._take_off)

    def _release(self) -> None:
        if self._placement.offload:
            self._take_off()

    def _take_off(self) -> None:
        cpu = torch.device("cpu")
        if self._placement.device.type != "cpu":
            # Patching again on a GPU takes a fraction of what copying patched weights back and
            # holding them beside the originals would take.
            self._weights.restore(cpu)
        self._weights.module.to(cpu)


class _Source(Generic[M]):
    """Reads a module on first use and gives it into care; shared by all parts made from one."""

    def __init__(self, name: str, load: Callable[[], M], placement: Placement) -> None:
        self._name, self._load, self._placement = name, load, placement
        self._lock = Lock()
        self.owned: Owned | None = None

    def own(self) -> Owned:
        with self._lock:
            if self.owned is None:
                self.owned = self._placement.own(self._load(), self._name)
            return self.owned


class Part(Generic[M]):
    """One model of a bundle, read from disk on first use and kept by its placement.

    Args:
        name: "transformer", "vae", "text encoder" or "image encoder"; for logs and errors.
        load: reads the weights and returns the module in eval mode on the CPU.
        placement: who owns it from then on.
    """

    def __init__(self, name: str, load: Callable[[], M], placement: Placement) -> None:
        self.name = name
        self.placement = placement
        self.patches: Patches = ()
        self._source = _Source(name, load, placement)
        self._base: Part[M] | None = None

    @property
    def device(self) -> torch.device:
        """Where this part computes."""
        return self.placement.device

    @property
    def is_loaded(self) -> bool:
        """Whether the weights have been read."""
        return self._source.owned is not None

    def release(self) -> None:
        """Take the weights off the device, unless they are in use or were never read."""
        if self._source.owned is not None:
            self._source.owned.release()

    def patched(self, patch: WeightPatch) -> Part[M]:
        """This part with one more patch; itself where the strength is 0. Shares the module."""
        if patch.strength == 0:
            return self
        twin = copy(self)
        twin.patches = (*self.patches, patch)
        # Keeps the first part alive, by which the loader finds a module that is in use.
        twin._base = self._base or self
        return twin

    @contextmanager
    def on_device(self, memory_required: int = 0) -> Iterator[M]:
        """The module with this part's patches on its weights, on its device, inside the block.

        Args:
            memory_required: bytes the work needs beside the weights; lets a host make room.
        """
        with self._source.own().on_device(memory_required, self.patches) as module:
            yield module  # type: ignore[misc]
