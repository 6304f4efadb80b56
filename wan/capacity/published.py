"""Times that others published, from which rates are taken where nothing of ours was measured.

What a device reaches with large products and attention is found from one published time of the same
network: what is left of it when the peer's own elementwise traffic is taken out.
"""

from __future__ import annotations

from dataclasses import dataclass

BANDWIDTH_SHARE = 0.9
"""Of the nominal bandwidth: an H200 copies at 4.3 of its 4.8 TB/s (measured)."""


@dataclass(frozen=True)
class Anchor:
    """One forward of 14B at 832x480 and 81 frames by somebody else's code."""

    gpu: str
    seconds: float
    block_traffic: float
    """GB that the peer moves per block between products, counted at 32,760 tokens with a fused
    RMSNorm."""
    source: str


DIFFUSERS, WAN_21, WAN_22 = 45.6, 51.6, 65.4
_WAN22_CHART = "Wan 2.2's own timing of I2V 480p, 40 steps, whole videos"
ANCHORS: dict[str, Anchor] = {
    "hopper": Anchor("h100", 4.602, DIFFUSERS, "diffusers PR 11605, one forward, eager"),
    "geforce-40": Anchor("rtx4090", 13.66, DIFFUSERS, "diffusers PR 11605, one forward, offloaded"),
    "a100": Anchor("a100", 810.0 / 80, WAN_22, _WAN22_CHART),
    "h20": Anchor("h20", 1117.4 / 80, WAN_22, _WAN22_CHART),
    "geforce-30": Anchor("rtx3090", 68.0 / 2, DIFFUSERS, "Wan2GP issue 28, int8, 480p"),
}
"""By family of GPUs. The first four name the hardware that the time was taken on; int8 weights of the
last are multiplied in 16 bits."""

HELD_OUT: tuple[tuple[str, float, float, str], ...] = (
    ("a100", 2810.9 / 80, WAN_22, "Wan 2.2's own timing of I2V 720p"),
    ("h20", 4054.7 / 80, WAN_22, "Wan 2.2's own timing of I2V 720p"),
    ("h200", 366.0 / 80, WAN_21, "Wan 2.1 as timed by LightX2V, I2V 480p"),
    ("h200", 974.0 / 80, WAN_21, "Wan 2.1 as timed by LightX2V, I2V 720p; FlashAttention 3"),
    ("h100", 1055.9 / 80, WAN_22, "Wan 2.2's own timing of I2V 720p; FlashAttention 3"),
)
"""(GPU, seconds a forward, GB a block, source): published times that no rate was taken from. A test
holds how far the model is from them."""
DOUBT = 0.37
"""How far modelled times were from `HELD_OUT` at most."""
