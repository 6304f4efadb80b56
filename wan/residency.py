"""Who owns a model's weights, and where they are while they compute.

The stages never move a module themselves: they ask a `Part` for it. Outside ComfyUI a
`DevicePlacement` moves whole modules; inside, the node layer brings a placement of its own
that hands every module to the host's memory manager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, Protocol, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Owned(Protocol):
    """A module in somebody's care."""

    def on_device(self, memory_required: int) -> AbstractContextManager[nn.Module]:
        """The module with its weights ready to compute.

        Args:
            memory_required: bytes that the work will need beside the weights.
        """
        ...


class Placement(Protocol):
    """Decides where modules live and compute."""

    device: torch.device
    """Where forwards run."""

    def own(self, module: nn.Module, name: str) -> Owned:
        """Take a freshly loaded module (weights on the CPU) into care; `name` is for logs."""
        ...


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
        self.module = module
        self.placement = placement

    @contextmanager
    def on_device(self, memory_required: int) -> Iterator[nn.Module]:
        self.module.to(self.placement.device)
        try:
            yield self.module
        finally:
            if self.placement.offload:
                self.module.to("cpu")


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
        self._load = load
        self._owned: Owned | None = None

    @property
    def device(self) -> torch.device:
        """Where this part computes."""
        return self.placement.device

    @property
    def is_loaded(self) -> bool:
        """Whether the weights have been read."""
        return self._owned is not None

    @contextmanager
    def on_device(self, memory_required: int = 0) -> Iterator[M]:
        """The module, loaded if need be, on its device for the length of the block.

        Args:
            memory_required: bytes the work needs beside the weights; lets a host make room.
        """
        if self._owned is None:
            self._owned = self.placement.own(self._load(), self.name)
        with self._owned.on_device(memory_required) as module:
            yield module  # type: ignore[misc]
