"""Kinds of GPUs as their vendors describe them, and how a user names them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError

GIBIBYTE = 2**30
BF16, FP8 = PRECISIONS = ("bf16", "fp8")
"""Of weights."""
_USABLE, _CONTEXT = 0.97, 600_000_000
"""Share of the memory that a process can have, and bytes that its context takes of it."""
_LIMITS = {"memory": 4096.0, "TFLOPS": 100_000.0, "bandwidth": 100_000.0}


@dataclass(frozen=True)
class GpuKind:
    """One kind of GPU. All rates are those of dense products, as the data sheet has them."""

    name: str
    memory: float
    """GiB (what is sold as GB)."""
    bf16: float
    """TFLOP/s with sums in float32."""
    fp8: float | None
    """TFLOP/s; None: there is none."""
    bandwidth: float
    """GB/s of its memory."""
    link: float
    """GB/s from the host's pinned memory as it is reached in practice: 25 of PCIe 4.0 x16, 50 of 5.0."""
    peer: float
    """GB/s each way to the other GPUs of the machine; that of `link` where there is no NVLink."""
    family: str
    """Kinds of one family reach like shares of their rates."""
    source: str
    device: str
    """Pattern of the name that PyTorch gives it."""

    @property
    def room(self) -> int:
        """Bytes that weights and work can have."""
        return int(self.memory * GIBIBYTE * _USABLE) - _CONTEXT


_NVIDIA = "NVIDIA's data sheet"
_ADA = "NVIDIA's Ada architecture paper"
_AMPERE = "NVIDIA's GA102 architecture paper"
_BLACKWELL = "NVIDIA's RTX Blackwell architecture paper"
_ROWS = (
    GpuKind(
        "h100", 80, 989.4, 1978.9, 3350, 50, 450, "hopper", f"{_NVIDIA}, H100 SXM", "H100(?!.*PCIe)"
    ),
    GpuKind(
        "h100-pcie", 80, 756, 1513, 2000, 50, 50, "hopper", f"{_NVIDIA}, H100 PCIe", "H100 PCIe"
    ),
    GpuKind("h200", 141, 989.4, 1978.9, 4800, 50, 450, "hopper", f"{_NVIDIA}, H200 SXM", "H200"),
    GpuKind("h20", 96, 148, 296, 4000, 50, 450, "h20", f"{_NVIDIA}, H20", r"H20\b"),
    GpuKind("b200", 180, 2250, 4500, 7700, 50, 900, "hopper", f"{_NVIDIA}, HGX B200", "B200"),
    GpuKind(
        "a100", 80, 312, None, 2039, 25, 300, "a100", f"{_NVIDIA}, A100 80GB SXM", "A100.*80GB"
    ),
    GpuKind(
        "a100-40", 40, 312, None, 1555, 25, 300, "a100", f"{_NVIDIA}, A100 40GB SXM", "A100.*40GB"
    ),
    GpuKind("a10", 24, 125, None, 600, 25, 25, "a100", f"{_NVIDIA}, A10", r"A10\b"),
    GpuKind(
        "a6000", 48, 154.8, None, 768, 25, 25, "geforce-30", f"{_NVIDIA}, RTX A6000", "RTX A6000"
    ),
    GpuKind("l40s", 48, 362, 733, 864, 25, 25, "a100", f"{_NVIDIA}, L40S", "L40S"),
    GpuKind("l4", 24, 121, 242, 300, 12, 12, "a100", f"{_NVIDIA}, L4 (PCIe 4.0 x8)", r"L4\b"),
    GpuKind("rtx3090", 24, 71, None, 936, 25, 25, "geforce-30", _AMPERE, r"RTX 3090\b(?! Ti)"),
    GpuKind("rtx4080", 16, 97.5, 194.9, 717, 25, 25, "geforce-40", _ADA, r"RTX 4080\b(?! SUPER)"),
    GpuKind("rtx4090", 24, 165.2, 330.3, 1008, 25, 25, "geforce-40", _ADA, r"RTX 4090\b"),
    GpuKind("rtx5090", 32, 209.5, 419, 1792, 50, 50, "geforce-40", _BLACKWELL, r"RTX 5090\b"),
)
KINDS = {kind.name: kind for kind in _ROWS}
"""By name."""


@dataclass(frozen=True)
class Pool:
    """GPUs of one kind."""

    kind: GpuKind
    count: int
    """1 or more."""


def parse_pools(text: str, own: Sequence[GpuKind] = ()) -> tuple[Pool, ...]:
    """Read "h100:8,rtx4090:4"; without a number it is one.

    Args:
        own: kinds of the user's, before those that are known.
    Raises:
        InputError: an unknown kind (with the nearest names), one named twice, or no whole number
            above 0.
    """
    known = KINDS | {kind.name: kind for kind in own}
    pools: dict[str, Pool] = {}
    for part in text.split(","):
        name, _, number = part.strip().lower().partition(":")
        if name not in known:
            raise _unknown(name, sorted(known))
        if not (number or "1").isdigit() or int(number or "1") < 1 or name in pools:
            raise InputError(
                what=f"--gpus {text!r} cannot be used.",
                why="It names each kind once, with how many there are.",
                fix="Write for example --gpus h100:8,rtx4090:4.",
            )
        pools[name] = Pool(known[name], int(number or "1"))
    return tuple(pools.values())


def parse_kind(text: str) -> GpuKind:
    """Read a kind that is not in the table: "NAME=MEMORY,TFLOPS,BANDWIDTH[,LINK[,PEER]]".

    Args:
        text: memory in GiB, dense bfloat16 TFLOP/s, memory GB/s, and GB/s to the host (else 25)
            and to other GPUs of the machine (else as to the host).
    Raises:
        InputError: not a name and three to five numbers above 0.
    """
    name, _, rest = text.partition("=")
    try:
        values = [float(value) for value in rest.split(",")]
    except ValueError:
        values = []
    is_sound = 3 <= len(values) <= 5 and all(0 < v < math.inf for v in values)
    if not name.strip() or not is_sound or _too_large(values):
        raise InputError(
            what=f"--gpu {text!r} cannot be used.",
            why="It is a name and memory (GiB), dense bfloat16 TFLOP/s, memory bandwidth (GB/s), and "
            "perhaps GB/s from the host and from other GPUs, all above 0.",
            fix="Write for example --gpu mine=48,181,864,25.",
        )
    memory, tflops, bandwidth = values[:3]
    link = values[3] if len(values) > 3 else 25.0
    peer = values[4] if len(values) > 4 else link
    name = name.strip().lower()
    rates = (tflops, None, bandwidth, link, peer)
    return GpuKind(name, memory, *rates, "own", "given by --gpu", rf"\b{re.escape(name)}\b")


def _too_large(values: Sequence[float]) -> bool:
    return any(v > limit for v, limit in zip(values, _LIMITS.values(), strict=False))


def _unknown(name: str, known: Sequence[str]) -> InputError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    return InputError(
        what=f"{name!r} is no kind of GPU that is known here.",
        why=f"Known are {', '.join(known)}.",
        fix=f"{meant}Others are described by --gpu NAME=MEMORY,TFLOPS,BANDWIDTH.",
    )
