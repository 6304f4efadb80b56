"""How many bytes of tensors live at once during some work, counted instead of measured.

Works on the `meta` device too, where true sizes cost nothing. What a library's kernels take for a
moment is not seen.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts what the operations inside the block make and what of it is freed again."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it and look at what came out."""
        for given in tree_leaves((args, kwargs)):
            self._meet(given, is_new=False)
        found = func(*args, **(kwargs or {}))
        for made in tree_leaves(found):
            self._meet(made, is_new=True)
        self.peak = max(self.peak, self.now)
        return found

    def _meet(self, tensor: object, is_new: bool) -> None:
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self.now += size if is_new else 0

        def gone(_: object) -> None:
            self._known.pop(key, None)
            self.now -= size if is_new else 0

        self._known[key] = weakref.ref(storage, gone)


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes of tensors that lived at once and were made by `work`."""
    with torch.inference_mode(), LiveBytes() as live:
        work()
    return live.peak
