"""Tensors packed into one flat piece of memory from which a device copies at full speed."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

log = logging.getLogger("wan_local")

_ALIGNMENT = 256  # bytes; what every kernel and every type is content with


class Packed:
    """Copies of tensors, one behind the other.

    Args:
        tensors: of any types, on the CPU.
        device: that will copy from here.
    """

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self._forms = [(t.dtype, t.shape, t.nbytes) for t in tensors]
        self.size = packed_size(tensors)
        self.memory = _memory(self.size, device)
        """[size] uint8 on the CPU."""
        if device.type == "cuda" and self.size:
            _pin(self, self.memory)
        with torch.inference_mode(False), torch.no_grad():
            for view, tensor in zip(self.views(self.memory), tensors, strict=True):
                view.copy_(tensor)

    def views(self, memory: Tensor) -> list[Tensor]:
        """The tensors in a copy of this memory, [size or more] uint8 on any device."""
        found, start = [], 0
        for dtype, shape, nbytes in self._forms:
            found.append(memory[start : start + nbytes].view(dtype).view(shape))
            start += _padded(nbytes)
        return found


def packed_size(tensors: Sequence[Tensor]) -> int:
    """Bytes that tensors take when they are packed."""
    return sum(_padded(tensor.nbytes) for tensor in tensors)


def _memory(size: int, device: torch.device) -> Tensor:
    """[size] uint8 on the CPU, pinned where the device copies faster from such memory."""
    with torch.inference_mode(False):
        memory = torch.empty(size, dtype=torch.uint8)
        return memory.pin_memory() if device.type == "xpu" else memory


def _pin(owner: object, memory: Tensor) -> None:
    """Pin memory for CUDA as long as its owner lives.

    The allocator of PyTorch rounds pinned memory up to a power of two, a quarter too much for a
    block of Wan; so ordinary memory is taken and pinned where it lies.
    """
    runtime, size = torch.cuda.cudart(), memory.nbytes
    code = int(runtime.cudaHostRegister(memory.data_ptr(), size, 0))
    if code:
        log.warning(
            "%.1f GB of RAM cannot be pinned (CUDA error %d): they are copied to the GPU at a "
            "fraction of the speed. Close other programs, or use fp8 or GGUF weights.",
            size / 1e9,
            code,
        )
    else:
        weakref.finalize(owner, runtime.cudaHostUnregister, memory.data_ptr())


def _padded(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
