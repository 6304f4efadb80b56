"""How much of a model is on the device while it computes, decided by what fits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch

MARGIN = 500_000_000
"""Bytes that stay free: fragments, and what kernels take for a moment."""


class Offload(str, Enum):
    """What leaves the device, and when."""

    AUTO = "auto"
    """Models stay while there is room; a transformer that does not fit is streamed."""
    OFF = "off"
    """Models stay once they are there."""
    BLOCKS = "blocks"
    """Transformers are always streamed, block by block: the least memory."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a model's weights."""

    weights: int
    """All of them, as they compute."""
    stack: int = 0
    """Of these the stack of blocks, which can be streamed; 0: there is none."""
    block: int = 0
    """The largest block."""

    @property
    def streamed(self) -> int:
        """What is on the device while the blocks are streamed: two of them, and the rest."""
        return self.weights - self.stack + 2 * self.block


@dataclass(frozen=True)
class Estimate:
    """What a piece of work needs on a device, and what there is."""

    name: str
    """Of the model, for example "transformer"."""
    footprint: Footprint
    work: int
    """Bytes beside the weights."""
    room: int | None
    """Bytes that could be had if everything else left; None: nobody knows, or it is the CPU."""
    device: str
    """As PyTorch spells it."""

    @property
    def fits_whole(self) -> bool:
        """Whether the whole model fits, as far as is known."""
        needed = self.footprint.weights + self.work + MARGIN
        return self.room is None or needed <= self.room

    def describe(self, is_streamed: bool) -> str:
        """One line for the user."""
        weights = f"{self.name}: {gigabytes(self.footprint.weights)} of weights"
        needed = self.work + self.footprint.weights
        if is_streamed:
            weights += f", of which {gigabytes(self.footprint.streamed)} at a time (streamed)"
            needed = self.work + self.footprint.streamed
        line = f"{weights} and about {gigabytes(self.work)} of work on {self.device}"
        if self.room is None:
            return line
        return f"{line}: {gigabytes(needed)} of {gigabytes(self.room)}"


def gigabytes(count: float) -> str:
    """Bytes as the user reads them."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= size / 10:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"


def room_on(device: torch.device) -> int | None:
    """Bytes that can still be taken on a device; None where that cannot be asked.

    What PyTorch keeps for later use counts as free.
    """
    if device.type in ("cuda", "xpu"):
        api = torch.get_device_module(device)
        free, _ = api.mem_get_info(device)
        return free + api.memory_reserved(device) - api.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def can_stream(device: torch.device) -> bool:
    """Whether streaming saves anything there. Apple's GPUs share the memory of the CPU."""
    return device.type in ("cpu", "cuda", "xpu")
