"""What was encoded before, found again by its content: a run that differs in its seed encodes nothing.

A memo belongs to the model that made its entries and goes with it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import torch
from torch import Tensor

MEMO_BYTES = 256_000_000
"""Of one model's entries: about 30 clips of 81 frames of 832x480, or as many prompts."""


class Memo:
    """Tensors by key; the longest unused are dropped when there are too many.

    Args:
        max_bytes: of all entries together.
    """

    def __init__(self, max_bytes: int = MEMO_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = Lock()
        self.hits = self.misses = 0

    @property
    def nbytes(self) -> int:
        """Of all entries."""
        with self._lock:
            return sum(tensor.nbytes for tensor in self._entries.values())

    def find(self, key: Hashable) -> Tensor | None:
        """An entry, or None. It is not to be written to."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            self._entries.move_to_end(key)
            return found

    def keep(self, key: Hashable, tensor: Tensor) -> Tensor:
        """Remember a tensor on the CPU; gives it back."""
        with self._lock:
            self._entries[key] = tensor
            self._entries.move_to_end(key)
            size = sum(entry.nbytes for entry in self._entries.values())
            while size > self._max_bytes and self._entries:
                size -= self._entries.popitem(last=False)[1].nbytes
        return tensor

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """An entry; made and remembered if it is not there."""
        found = self.find(key)
        return self.keep(key, make()) if found is None else found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


def digest(*tensors: Tensor | None) -> bytes:
    """Equal for tensors of equal type, shape and numbers; None is unlike any tensor."""
    result = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        if tensor is None:
            result.update(b"none")
            continue
        result.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().view(-1)
        result.update(flat.view(torch.uint8).numpy() if flat.numel() else b"")
    return result.digest()
