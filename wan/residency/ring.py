"""Blocks that visit the device one after the other, while their weights stay in the CPU's memory.

A transformer is a stack of blocks, and only one of them computes at a time. Two buffers on the
device take turns: while one block computes in the first, the weights of the next one arrive in
the second, on a stream of their own. The weights of a block lie in one flat piece of pinned
memory, so a block is one copy; nothing is ever copied back, because weights are not written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..deltas import Change, Patches, add_changes, changed_names, changes_of, copied
from ..quantised import QuantisedLinear, quantised_layer
from .offload import Footprint
from .pinned import Packed, packed_size
from .weights import Homes, Slot, expect_changeable, slots_of

log = logging.getLogger("wan_local")

_BUFFERS = 2


class Engine(Protocol):
    """Copies to a device beside the work that goes on there."""

    def copy(self, target: Tensor, source: Tensor, after: Any) -> Any:
        """Begin to copy, once the mark `after` is reached; returns a mark for `wait`."""
        ...

    def wait(self, copied: Any) -> None:
        """Let the work that is given to the device from now on wait for a copy."""
        ...

    def finish(self, copied: Any) -> None:
        """Wait here until a copy is done."""
        ...

    def mark(self) -> Any:
        """A mark behind all the work that was given to the device so far."""
        ...


class SideStream:
    """Copies on a stream of their own, for devices that have streams (CUDA, ROCm, XPU)."""

    def __init__(self, device: torch.device) -> None:
        self._api = torch.get_device_module(device)
        self._device, self._stream = device, self._api.Stream(device)

    def copy(self, target: Tensor, source: Tensor, after: Any) -> Any:
        """As `Engine`."""
        with self._api.stream(self._stream):
            self._stream.wait_event(after)
            target.copy_(source, non_blocking=True)
            return self._mark(self._stream)

    def wait(self, copied: Any) -> None:
        """As `Engine`."""
        self._api.current_stream(self._device).wait_event(copied)

    def finish(self, copied: Any) -> None:
        """As `Engine`."""
        copied.synchronize()

    def mark(self) -> Any:
        """As `Engine`."""
        return self._mark(self._api.current_stream(self._device))

    def _mark(self, stream: Any) -> Any:
        event = self._api.Event()
        event.record(stream)
        return event


class Immediate:
    """Copies at once: the CPU does everything in order."""

    def copy(self, target: Tensor, source: Tensor, after: Any) -> Any:
        """As `Engine`."""
        target.copy_(source)

    def wait(self, copied: Any) -> None:
        """As `Engine`."""

    def finish(self, copied: Any) -> None:
        """As `Engine`."""

    def mark(self) -> Any:
        """As `Engine`."""


@dataclass(frozen=True)
class Stack:
    """The list of blocks that holds most of a module's weights."""

    owner: nn.Module
    name: str
    blocks: nn.ModuleList


def find_stack(module: nn.Module, path: str) -> Stack | None:
    """The list of blocks of a module.

    Args:
        path: where it is, for example "encoder.block"; empty: there is none.
    """
    if not path:
        return None
    place, _, name = path.rpartition(".")
    owner = module.get_submodule(place)
    return Stack(owner, name, owner.get_submodule(name))  # type: ignore[arg-type]


class StreamedBlocks(Sequence[nn.Module]):
    """Stands in for the list of blocks; each one's weights are there while it is at its turn."""

    def __init__(self, ring: BlockRing, blocks: nn.ModuleList) -> None:
        self._ring, self._blocks = ring, blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        """A block as it is, perhaps without weights on the device."""
        return self._blocks[index]

    def __iter__(self) -> Iterator[nn.Module]:
        return self._ring.walk()


class _Buffer:
    """Memory on the device that one block at a time is in."""

    def __init__(self, memory: Tensor, free: Any) -> None:
        self.memory, self.free = memory, free
        self.block: int | None = None
        self.copied: list[Any] = []


class _Block:
    """One block: its tensors packed, and what patches add to them."""

    def __init__(self, module: nn.Module, prefix: str, homes: Homes, device: torch.device) -> None:
        self.module, self.prefix = module, prefix
        self.slots = slots_of(module)
        self.packed = Packed([slot.tensor for slot in self.slots], device)
        views = self.packed.views(self.packed.memory)
        for slot, home in zip(self.slots, views, strict=True):
            homes.move(slot, home)
        self._homes = self._wrapped(views)
        # By buffer: made once, since there are dozens of tensors in a block and as many blocks.
        self._visits: dict[int, list[Tensor]] = {}
        self.changes: list[tuple[Slot | QuantisedLinear, Sequence[Change]]] = []
        self.factors: Packed | None = None

    def set_changes(
        self, changes: Sequence[tuple[str, Sequence[Change]]], device: torch.device
    ) -> None:
        """Arrive with these changes, by name of the block's parameter."""
        self.changes = [(_target(self.module, name), found) for name, found in changes]
        tensors = [t for _, found in changes for _, delta in found for t in delta.tensors]
        self.factors = Packed(tensors, device) if tensors else None

    @property
    def size(self) -> int:
        """Bytes of a buffer it fits into."""
        return self.packed.size + (self.factors.size if self.factors else 0)

    def bind(self, memory: Tensor) -> None:
        """Compute with the weights in a buffer, and with the patches on them."""
        key = memory.data_ptr()
        if key not in self._visits:
            self._visits[key] = self._wrapped(self.packed.views(memory))
        for slot, tensor in zip(self.slots, self._visits[key], strict=True):
            slot.hold(tensor)
        if self.factors is None:
            return
        tensors = iter(self.factors.views(memory[self.packed.size :]))
        for target, changes in self.changes:
            here = copied(changes, lambda _: next(tensors))
            if isinstance(target, QuantisedLinear):
                target.changes = here
            else:
                weight = target.tensor
                # In float32 and rounded once, as where patched weights stay on the device.
                target.put(add_changes(weight.to(torch.float32, copy=True), here).to(weight.dtype))

    def forget(self) -> None:
        """Know no buffers any more."""
        self.unbind()
        self._visits.clear()

    def _wrapped(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [slot.wrap(t) for slot, t in zip(self.slots, tensors, strict=True)]

    def unbind(self) -> None:
        """Let go of the buffer."""
        for slot, home in zip(self.slots, self._homes, strict=True):
            slot.hold(home)
        for target, _ in self.changes:
            if isinstance(target, QuantisedLinear):
                target.changes = ()


class BlockRing:
    """Streams the blocks of one module.

    Args:
        module: the whole one.
        stack: from `find_stack` of it.
        homes: of the module; the blocks' tensors move into the ring's memory, one block after the
            other, so that no more than one is there twice.
        device: where they compute.
        engine: None: the one that fits the device.
    """

    def __init__(
        self,
        module: nn.Module,
        stack: Stack,
        homes: Homes,
        device: torch.device,
        engine: Engine | None = None,
    ) -> None:
        self._stack, self._device = stack, device
        has_streams = device.type in ("cuda", "xpu")
        self._engine = engine or (SideStream(device) if has_streams else Immediate())
        names = {id(child): f"{name}." for name, child in module.named_modules()}
        self._prefix = names[id(stack.blocks)]
        self._blocks = [_Block(b, names[id(b)], homes, device) for b in stack.blocks]
        self.slots = {slot for block in self._blocks for slot in block.slots}
        """Of the tensors that are streamed."""
        self._buffers: list[_Buffer] = []
        self._patches: Patches = ()
        self.moved_bytes = 0
        """Copied to the device since the ring was made."""

    @property
    def buffer_bytes(self) -> int:
        """What it takes on the device while it is open."""
        return _BUFFERS * max(block.size for block in self._blocks)

    def take_out(self) -> None:
        """Put the streamed blocks in place of the list, which moves with the module no longer."""
        self._stack.owner._modules.pop(self._stack.name, None)
        self._stack.owner.__dict__[self._stack.name] = StreamedBlocks(self, self._stack.blocks)

    def put_back(self) -> None:
        """Give the module its list again."""
        self._stack.owner.__dict__.pop(self._stack.name, None)
        self._stack.owner._modules[self._stack.name] = self._stack.blocks

    def covers(self, name: str) -> bool:
        """Whether a parameter of the module, by its name, is streamed."""
        return name.startswith(self._prefix)

    def set_patches(self, patches: Patches) -> None:
        """Make these the patches that blocks arrive with; others than those streamed are left
        out. Only while the ring is closed, or open with the same ones."""
        if patches == self._patches:
            return
        self.close()
        self._patches = ()
        for block in self._blocks:
            block.set_changes(
                [
                    (name.removeprefix(block.prefix), changes_of(patches, name))
                    for name in changed_names(patches)
                    if name.startswith(block.prefix)
                ],
                self._device,
            )
        self._patches = patches

    def open(self) -> None:
        """Take the buffers."""
        if not self._buffers:
            size = max(block.size for block in self._blocks)
            with torch.inference_mode(False):
                memories = [
                    torch.empty(size, dtype=torch.uint8, device=self._device)
                    for _ in range(_BUFFERS)
                ]
            self._buffers = [_Buffer(memory, self._engine.mark()) for memory in memories]

    def close(self) -> None:
        """Let go of the buffers; the blocks have their weights on the CPU again."""
        for buffer in self._buffers:
            for mark in buffer.copied:  # neither of its two ends may be given away before
                self._engine.finish(mark)
        for block in self._blocks:
            block.forget()
        self._buffers = []

    def walk(self) -> Iterator[nn.Module]:
        """The blocks in order, each ready to compute until the next one is asked for."""
        count = len(self._blocks)
        for index, block in enumerate(self._blocks):
            buffer = self._fetch(index, None)
            # behind the last block comes the first one of the next walk
            self._fetch((index + 1) % count, buffer)
            for mark in buffer.copied:
                self._engine.wait(mark)
            try:
                with torch.inference_mode(False), torch.no_grad():
                    block.bind(buffer.memory)
                yield block.module
            finally:
                block.unbind()
                buffer.free = self._engine.mark()

    def _fetch(self, index: int, busy: _Buffer | None) -> _Buffer:
        """The buffer that a block is in or is on its way to; not the one that is busy."""
        for buffer in self._buffers:
            if buffer.block == index:
                return buffer
        buffer = next(found for found in self._buffers if found is not busy)
        block, start = self._blocks[index], 0
        buffer.block, buffer.copied = index, []
        for packed in (block.packed, block.factors):
            if packed is not None:
                target = buffer.memory[start : start + packed.size]
                buffer.copied.append(self._engine.copy(target, packed.memory, buffer.free))
                self.moved_bytes += packed.size
                start += packed.size
        return buffer


def footprint(module: nn.Module, stack: Stack | None) -> Footprint:
    """Bytes of a module's weights, and of its stack from `find_stack`."""
    if stack is None:
        return Footprint(_bytes(module))
    largest = max(packed_size([s.tensor for s in slots_of(block)]) for block in stack.blocks)
    return Footprint(_bytes(module), _bytes(stack.blocks), largest)


def _target(module: nn.Module, name: str) -> Slot | QuantisedLinear:
    layer = quantised_layer(module, name)
    if layer is not None:
        return layer
    weight = module.get_parameter(name)
    expect_changeable(name, weight)
    owner, _, leaf = name.rpartition(".")
    return Slot(((module.get_submodule(owner), leaf),), is_parameter=True)


def _bytes(module: nn.Module) -> int:
    return sum(slot.tensor.nbytes for slot in slots_of(module))
