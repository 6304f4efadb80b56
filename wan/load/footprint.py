"""Bytes that weights will take once they are loaded, told by the header alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path

import torch

from ..errors import WanError
from ..residency import Footprint
from .gguf_file import GGML_SIZES
from .header import TensorInfo, read_header
from .inspect import Kind, expect

# A transformer's blocks, and those of UMT5 (standard names).
_BLOCK = re.compile(r"^(?:blocks|encoder\.block)\.(\d+)\.")
_FP8 = ("F8_E4M3", "F8_E5M2")


def weight_footprint(path: Path, kind: Kind, dtype: torch.dtype, unpack_fp8: bool) -> Footprint:
    """Estimate of what a file's weights take, without reading them.

    Args:
        path: of the weights; see `read_header`.
        kind: what they are.
        dtype: type of the weights that are not quantised. Some stay float32 and are counted too
            small; they are few.
        unpack_fp8: fp8 weights get their full size.
    Returns:
        Nothing but zeros where the file cannot be read: loading it says why.
    """
    try:
        tensors = expect(read_header(path), kind).header.tensors
    except WanError:
        return Footprint(0)
    size = _sizes(dtype, unpack_fp8)
    blocks: Counter[str] = Counter()
    total = 0
    for name, info in tensors.items():
        total += size(info)
        if match := _BLOCK.match(name):
            blocks[match[1]] += size(info)
    if not blocks:
        return Footprint(total)
    return Footprint(total, sum(blocks.values()), max(blocks.values()))


def _sizes(dtype: torch.dtype, unpack_fp8: bool) -> Callable[[TensorInfo], int]:
    def size(info: TensorInfo) -> int:
        count = prod(info.shape)
        if len(info.shape) == 2 and info.dtype in GGML_SIZES:
            numbers, nbytes = GGML_SIZES[info.dtype]
            return count // numbers * nbytes
        if len(info.shape) == 2 and info.dtype in _FP8 and not unpack_fp8:
            return count
        return count * dtype.itemsize

    return size
