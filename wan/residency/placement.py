"""Who owns a module outside of any host, and what is on its device."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from ..deltas import Patches, change_bytes, changed_names
from ..quantised import quantised_names
from .offload import MARGIN, Estimate, Offload, can_stream, room_on
from .ring import BlockRing, find_stack, footprint
from .turns import Turns
from .weights import CPU, Homes, PatchedWeights

if TYPE_CHECKING:
    from ..parallel.seat import Ranks

log = logging.getLogger("wan_local")


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

    @property
    def is_streamed(self) -> bool:
        """Whether its blocks were streamed when it was used last."""
        ...

    def shrink(self) -> bool:
        """Take less memory from the next use on, by streaming; False if that is not possible."""
        ...


class Placement(Protocol):
    """Decides where modules live and compute."""

    device: torch.device
    """Where forwards run."""
    ranks: Ranks | None
    """The processes that share a transformer's work; None: it is done here alone."""

    def own(self, module: nn.Module, name: str, stack: str = "") -> Owned:
        """Take a freshly loaded module into care.

        Args:
            module: its weights are on the CPU.
            name: for logs.
            stack: path of its list of blocks, if those can be streamed.
        """
        ...

    def room(self) -> int | None:
        """Bytes that a model could have on the device if all others left; None: not known."""
        ...

    def streams(self, estimate: Estimate) -> bool:
        """Whether a model will be streamed, as far as can be said before it is loaded."""
        ...

    def free(self) -> None:
        """Take everything off the device that is not in use."""
        ...

    def default_dtype(self) -> torch.dtype:
        """Type of weights that the device computes best in."""
        ...


def default_dtype(device: torch.device) -> torch.dtype:
    """Type of the weights on a device: float32 on the CPU, else bfloat16 where it is native.

    GPUs before Ampere only emulate bfloat16; they get float16.
    """
    if device.type == "cpu":
        return torch.float32
    if device.type != "cuda":
        return torch.float16 if device.type == "mps" else torch.bfloat16
    is_native = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if is_native else torch.float16


class DevicePlacement:
    """Keeps models on one device as long as there is room for those that are needed.

    Args:
        device: where they compute.
        offload: what leaves it, and when.
        room: bytes that can still be taken there, None if unknown; for tests. Left out: the
            device is asked.
        ranks: the processes that share a transformer's work, this one among them.
    """

    def __init__(
        self,
        device: str | torch.device = "cpu",
        offload: Offload | str = Offload.AUTO,
        room: Callable[[], int | None] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks
        self.device = torch.device(device)
        self.offload = Offload(offload)
        self._room = room or (lambda: room_on(self.device))
        # Longest unused first. Models die with those who use them, not with this.
        self._users: list[weakref.ref[_DeviceOwned]] = []
        self._lock = RLock()

    def own(self, module: nn.Module, name: str, stack: str = "") -> Owned:
        """Keep `module` on the CPU until it is used."""
        return _DeviceOwned(module, name, self, stack)

    def default_dtype(self) -> torch.dtype:
        """As `default_dtype` of the device."""
        return default_dtype(self.device)

    @property
    def is_shy(self) -> bool:
        """Whether models leave at once, because nobody could say later when room is short."""
        return self.offload is not Offload.OFF and self._room() is None

    def room(self) -> int | None:
        """What is free, and what our own models take."""
        free = self._room()
        return None if free is None else free + sum(user.there for user in self._living())

    def streams(self, estimate: Estimate) -> bool:
        """As `Placement`."""
        if not estimate.footprint.stack or self.offload is Offload.OFF:
            return False
        if not can_stream(self.device):
            return False
        return self.offload is Offload.BLOCKS or not estimate.fits_whole

    def make_room(self, needed: int, wanted: _DeviceOwned) -> None:
        """Let others leave, the longest unused first, until `needed` bytes are free."""
        with self._lock:
            for user in self._living():
                free = self._room()
                is_enough = free is not None and free >= needed + MARGIN
                if self.offload is Offload.OFF or is_enough:
                    break
                if user is not wanted:
                    user.release()
            self._users = [weakref.ref(u) for u in self._living() if u is not wanted]
            self._users.append(weakref.ref(wanted))

    def free(self) -> None:
        """As `Placement`."""
        for user in self._living():
            user.release()
        if self.device.type in ("cuda", "xpu", "mps"):
            torch.get_device_module(self.device).empty_cache()

    def close(self) -> None:
        """Part from the ranks, if there are several."""
        if self.ranks is not None:
            self.ranks.close()

    def _living(self) -> list[_DeviceOwned]:
        return [user for ref in self._users if (user := ref()) is not None]


class _DeviceOwned:
    """One module: whole on the device, or streamed to it, or on the CPU."""

    def __init__(
        self, module: nn.Module, name: str, placement: DevicePlacement, stack: str
    ) -> None:
        self._module, self._name, self._placement = module, name, placement
        self._homes = Homes(module)
        self._weights = PatchedWeights(module)
        self._stack = find_stack(module, stack)
        self._footprint = footprint(module, self._stack)
        self._quantised = set(quantised_names(module))
        self._ring: BlockRing | None = None
        self._must_stream = self._is_streaming = self._is_used = False
        self._turns = Turns()

    @property
    def there(self) -> int:
        """Bytes that its weights take on the device."""
        device = self._placement.device
        return 0 if device.type == "cpu" else self._homes.nbytes - self._homes.missing(device)

    @contextmanager
    def on_device(self, memory_required: int, patches: Patches = ()) -> Iterator[nn.Module]:
        def prepare(wanted: Patches) -> None:
            with torch.inference_mode(False), torch.no_grad():
                self._prepare(wanted, memory_required)

        with self._turns.take(patches, prepare, self._leave):
            yield self._module

    def release(self) -> None:
        self._turns.if_idle(self._take_off)

    @property
    def is_streamed(self) -> bool:
        """As `Owned`."""
        return self._is_streaming

    def shrink(self) -> bool:
        if self._must_stream or not self._stack or not can_stream(self._placement.device):
            return False
        was_streamed, self._must_stream = self._is_streaming, True
        return not was_streamed

    def _prepare(self, patches: Patches, work: int) -> None:
        if not self._is_used:
            self._choose(patches, work)
        self._is_used = True
        if self._is_streaming:
            self._stream(patches)
        else:
            self._move(patches)

    def _choose(self, patches: Patches, work: int) -> None:
        """Whole or streamed; then make room for it."""
        placement, size = self._placement, self._footprint
        work += change_bytes(patches, self._quantised)
        estimate = Estimate(self._name, size, work, placement.room(), str(placement.device))
        streams = self._must_stream or placement.streams(estimate)
        if streams != self._is_streaming:
            self._take_off()
            self._is_streaming = streams
        needed = work + (size.streamed if streams else size.weights) - self.there
        placement.make_room(needed, self)

    def _move(self, patches: Patches) -> None:
        if patches != self._weights.patches:
            self._weights.restore(CPU)
            self._weights.apply(patches, self._placement.device)
        self._homes.send(self._placement.device)

    def _stream(self, patches: Patches) -> None:
        ring, device = self._opened_ring(), self._placement.device
        outside = [name for name in changed_names(patches) if not ring.covers(name)]
        if patches != self._weights.patches:
            self._weights.restore(CPU)
            self._weights.apply(patches, device, outside)
        ring.set_patches(patches)
        self._homes.send(device, ring.slots)
        ring.open()

    def _opened_ring(self) -> BlockRing:
        if self._ring is None:
            assert self._stack is not None  # nothing streams without
            log.info("%s: its blocks are streamed to %s", self._name, self._placement.device)
            self._ring = BlockRing(self._module, self._stack, self._homes, self._placement.device)
        self._ring.take_out()
        return self._ring

    def _leave(self) -> None:
        self._is_used = False
        if self._is_streaming and self._ring is not None:
            self._ring.close()
            self._ring.put_back()
        if self._placement.is_shy:
            self._take_off()

    def _take_off(self) -> None:
        if self._placement.device.type != "cpu":
            # Patching again on a GPU takes a fraction of what holding patched weights would take.
            self._weights.restore(CPU)
            self._homes.back()
