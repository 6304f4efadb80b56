"""How fast a kind of GPU is at what a job consists of."""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry import LatentShape
from ..payloads import Variant
from .figures import Figure, measured, modelled, nominal
from .gpus import KINDS, GpuKind
from .measurements import Measurements
from .published import ANCHORS, BANDWIDTH_SHARE, Anchor
from .work import LAYERS, Forward, forward_work

_TERA, _GIGA = 1e12, 1e9
_OWN_SHARE = 0.5
"""Of the nominal rate, for kinds that nobody published a time of."""
_HALF_CONVOLUTION, _FLOAT_CONVOLUTION, _FLOAT32 = 0.5, 0.3, 0.05
"""Shares of the nominal bfloat16 rate that the VAE's convolutions in bfloat16 and TF32, and products
in float32, are counted with: performance.md 2.7."""
_NETWORKS = 0.1
"""Likewise for small networks on small batches: poses, RIFE."""
_SKIPPED_STEP = 0.01

ANCHOR_SHAPE = LatentShape(21, 60, 104)
"""832x480 and 81 frames, which published times are of."""


@dataclass(frozen=True)
class Rates:
    """Of one kind of GPU."""

    linear: Figure
    """FLOP/s of matrix products with weights."""
    attention: Figure
    """FLOP/s."""
    memory: Figure
    """Bytes/s."""
    link: Figure
    """Bytes/s from the host."""
    peer: Figure
    """Bytes/s each way to other GPUs of the machine."""
    decode: Figure
    """FLOP/s of the VAE's decoder."""
    encode: Figure
    """FLOP/s of its encoder."""
    float32: Figure
    """FLOP/s."""
    networks: Figure
    """FLOP/s."""
    skipped: Figure
    """A skipped step, of a computed one."""
    scale: float = 1.0
    """What forwards were measured to take, of what these rates give."""
    measurements: Measurements | None = None

    def forward_seconds(self, work: Forward) -> float:
        """One forward on one GPU, with all weights there."""
        compute = work.linear / self.linear.value + work.attention / self.attention.value
        return self.scale * (compute + work.traffic / self.memory.value)


def compute_share(kind: GpuKind) -> tuple[float, str]:
    """What products and attention reach of the nominal rate, and where that is known from."""
    anchor = ANCHORS.get(kind.family)
    if anchor is None:
        return _OWN_SHARE, f"assumed to reach {_OWN_SHARE:.0%} of {kind.bf16:g} TFLOP/s"
    share = anchor_share(anchor)
    return share, f"{share:.0%} of {kind.bf16:g} TFLOP/s, as an {anchor.gpu} in {anchor.source}"


def anchor_share(anchor: Anchor) -> float:
    """What is left of a published forward when the peer's traffic is taken out, as a share."""
    kind = KINDS[anchor.gpu]
    work = forward_work(ANCHOR_SHAPE, Variant.I2V)
    traffic = anchor.block_traffic * _GIGA * LAYERS / (BANDWIDTH_SHARE * kind.bandwidth * _GIGA)
    return work.flops / (anchor.seconds - traffic) / (kind.bf16 * _TERA)


def rates_of(kind: GpuKind, found: Measurements | None = None, tokens: int = 0) -> Rates:
    """Rates, measured where a file says them.

    Args:
        found: of a device of this kind.
        tokens: of the clips that will be sampled: attention is measured at several lengths.
    """
    share, told = compute_share(kind)
    compute = modelled(share * kind.bf16 * _TERA, "FLOP/s", told)
    memory = modelled(
        BANDWIDTH_SHARE * kind.bandwidth * _GIGA,
        "B/s",
        f"{BANDWIDTH_SHARE:.0%} of {kind.bandwidth:g} GB/s",
    )
    link = nominal(kind.link * _GIGA, "B/s", f"{kind.source}: its PCIe, as reached in practice")
    linear = attention = compute
    skipped = modelled(_SKIPPED_STEP, "of a step", "the goal of bench B4")
    if found is not None:
        if found.products:
            linear = measured(found.products * _TERA, "FLOP/s", f"{found.source}: B0")
        if found.attention:
            near = min(found.attention, key=lambda count: abs(count - tokens))
            rate = found.attention[near] * _TERA
            attention = measured(rate, "FLOP/s", f"{found.source}: B1, {near} tokens")
        if found.copy:
            memory = measured(found.copy * _GIGA, "B/s", f"{found.source}: B0")
        if found.link:
            link = measured(found.link * _GIGA, "B/s", f"{found.source}: B0")
        if found.skipped:
            skipped = measured(found.skipped, "of a step", f"{found.source}: B4")

    def part(of: float, what: str) -> Figure:
        return modelled(of * kind.bf16 * _TERA, "FLOP/s", f"{of:.0%} of the nominal rate: {what}")

    rates = Rates(
        linear=linear,
        attention=attention,
        memory=memory,
        link=link,
        peer=nominal(kind.peer * _GIGA, "B/s", kind.source),
        decode=part(_HALF_CONVOLUTION, "convolutions in bfloat16"),
        encode=part(_FLOAT_CONVOLUTION, "convolutions in TF32"),
        float32=part(_FLOAT32, "float32"),
        networks=part(_NETWORKS, "small networks"),
        skipped=skipped,
        measurements=found,
    )
    return _scaled(rates, tokens)


def _scaled(rates: Rates, tokens: int) -> Rates:
    """Rates that give what the nearest measured forward took."""
    found = rates.measurements
    if found is None or not found.forward:
        return rates
    near = min(found.forward, key=lambda count: abs(count - tokens))
    # tokens of one latent frame of 2 rows and 2 columns each
    work = forward_work(LatentShape(near, 2, 2), Variant.I2V)
    scale = found.forward[near] / rates.forward_seconds(work)
    return Rates(**{**vars(rates), "scale": scale})
