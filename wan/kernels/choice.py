"""Which implementation computes the fused steps on a device."""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

KINDS = ("auto", "triton", "compile", "eager")
"""Of the environment variable WAN_LOCAL_KERNELS."""


@lru_cache
def wanted() -> str:
    """What the environment asks for, read once; anything unknown is "auto"."""
    kind = os.environ.get("WAN_LOCAL_KERNELS", "auto")
    return kind if kind in KINDS else "auto"


def choose(device_type: str) -> str:
    """ "triton", "compile" or "eager" for a device of that type.

    Triton runs on CUDA (and ROCm, which calls itself so) where it is installed; it is asked for
    anywhere else in vain. "compile" is never chosen on its own: it takes minutes at first.
    """
    kind = wanted()
    if kind in ("eager", "compile"):
        return kind
    return "triton" if device_type == "cuda" and has_triton() else "eager"


@lru_cache
def has_triton() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None


def report(device_type: str) -> str:
    """The choice for a device, as a user reads it."""
    names = {"triton": "Triton", "compile": "torch.compile", "eager": "PyTorch"}
    return names[choose(device_type)]
