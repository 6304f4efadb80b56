"""Who owns a model's weights, where they are while they compute, and what is added to them.

The stages never move a module themselves: they ask a `Part` for it. Outside ComfyUI a
`DevicePlacement` moves modules, whole or block by block; inside, the node layer brings a placement
of its own that hands every module to the host's memory manager.

A LoRA is a `WeightPatch`. `Part.patched` gives another part of the same module: whichever part is
asked, the module comes with exactly that part's patches on its weights, and a weight without
patches is bit for bit the one that was loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from threading import Lock
from typing import Generic, TypeVar

import torch
from torch import nn

from ..deltas import Patches, WeightPatch
from ..memo import Memo
from ..quantised import quantised_names
from .offload import Estimate, Footprint
from .placement import Owned, Placement

M = TypeVar("M", bound=nn.Module)


class _Source(Generic[M]):
    """Reads a module on first use and gives it into care; shared by all parts made from one."""

    def __init__(self, name: str, load: Callable[[], M], placement: Placement, stack: str) -> None:
        self._name, self._load, self._placement, self._stack = name, load, placement, stack
        self._lock = Lock()
        self.owned: Owned | None = None
        self.is_quantised = False
        self.memo = Memo()

    def own(self) -> Owned:
        with self._lock:
            if self.owned is None:
                module = self._load()
                self.is_quantised = bool(quantised_names(module))
                self.owned = self._placement.own(module, self._name, self._stack)
            return self.owned


class Part(Generic[M]):
    """One model of a bundle, read from disk on first use and kept by its placement.

    Args:
        name: "transformer", "vae", "text encoder" or "image encoder"; for logs and errors.
        load: reads the weights and returns the module in eval mode on the CPU.
        placement: who owns it from then on.
        footprint: bytes of the weights as far as the files tell them.
        stack: path of the module's list of blocks, if they can be streamed: it is walked through
            from first to last, and nothing else looks into it.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], M],
        placement: Placement,
        footprint: Footprint | None = None,
        stack: str = "",
    ) -> None:
        self.name = name
        self.footprint = footprint or Footprint(0)
        self.placement = placement
        self.patches: Patches = ()
        self._source = _Source(name, load, placement, stack)
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

    @property
    def is_streamed(self) -> bool:
        """Whether its blocks were streamed when it was used last."""
        return self._source.owned is not None and self._source.owned.is_streamed

    @property
    def is_quantised(self) -> bool:
        """Whether weights are kept smaller than they compute; False before they are read."""
        return self._source.is_quantised

    @property
    def memo(self) -> Memo:
        """What this model encoded before. Patched parts share it: its keys must tell."""
        return self._source.memo

    def shrink(self) -> bool:
        """After the device ran out of memory: stream the blocks from the next use on.

        Returns:
            False if they are streamed already or there are none.
        """
        return self._source.owned is not None and self._source.owned.shrink()

    def estimate(self, work: int) -> Estimate:
        """What a use of this part takes, before anything is read from disk.

        Args:
            work: bytes beside the weights.
        """
        added = sum(
            tensor.nbytes
            for patch in self.patches
            for deltas in patch.deltas.values()
            for delta in deltas
            for tensor in delta.tensors
        )
        room = self.placement.room()
        return Estimate(self.name, self.footprint, work + added, room, str(self.device))

    def describe_memory(self, work: int) -> str:
        """`estimate` as one line for the user, with what will be done about it."""
        estimate = self.estimate(work)
        return estimate.describe(self.is_streamed or self.placement.streams(estimate))

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
