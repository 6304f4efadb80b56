"""What a job makes a device compute and move, counted from the shapes. No device comes into it."""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry import SPATIAL_STRIDE, TEXT_TOKENS, LatentShape, latent_frames
from ..load import catalog
from ..payloads import Mode, Variant
from ..residency import Footprint
from ..tiling import plan_tiles
from .job import JobPlan

DIM, HEADS, FFN, LAYERS = 5120, 40, 13824, 40
"""Of all 14B transformers of Wan."""
IMAGE_TOKENS = 257
FACE_EVERY = 5
"""Blocks of Wan 2.2 Animate from one face adapter to the next."""
ACTIVATION_BYTES = 2

BLOCK_TRAFFIC, TRAFFIC_TOKENS = 9.192e9, 32_760
"""Bytes that our block moves between its products at so many tokens: row A1 of BENCHMARKS.md."""

# performance.md 2.7, counted for 832x480 and 81 frames (21 latent ones)
_VAE_PIXELS, _VAE_LATENTS = 832 * 480, 21
_DECODE_FLOPS, _ENCODE_FLOPS = 275e12, 164e12
_DECODE_TRAFFIC = 1.55e12
"""Bytes in bfloat16 with fused norms."""
_STOCK_TRAFFIC = 2.70e12
"""Bytes of decoding in float32; encoding moves less as it computes less."""
_TEXT_FLOPS = 9.26e9 * TEXT_TOKENS
_IMAGE_FLOPS = 0.33e12
_MOTION_FLOPS = 0.0393e12
"""Of one picture of a face, in float32."""
_POSE_FLOPS = 2 * (308.5e6 * 192 + 59.1e9 / 2)
"""Of one frame: ViTPose-L (308.5 M weights, 192 tokens) and YOLOv10-M (59.1 GFLOP as published)."""
_RIFE_FLOPS = 19.02e9
"""Of a pair of 832x480: row A12 of BENCHMARKS.md."""
# FLUX.1-Kontext: 12 B weights, 28 steps, 64x64 tokens of the picture, as many of the given one, text
_EDIT_FLOPS = 2 * 12e9 * (2 * 4096 + 512) * 28

_BF16_BYTES = 2


@dataclass(frozen=True)
class Forward:
    """One pass of one branch through the transformer."""

    linear: float
    """FLOP of matrix products with weights."""
    attention: float
    """FLOP of attention, to itself and to texts and pictures."""
    traffic: float
    """Bytes between products."""

    @property
    def flops(self) -> float:
        """All of them."""
        return self.linear + self.attention


def forward_work(shape: LatentShape, variant: Variant) -> Forward:
    """FLOP and bytes of one forward, by performance.md 2.3 and 2.4.

    Args:
        shape: of the latents, with the reference's or end frame's own.
        variant: Animate has a face adapter behind every fifth block.
    """
    tokens = shape.tokens
    context = TEXT_TOKENS + IMAGE_TOKENS * (2 if variant is Variant.FLF2V else 1)
    linear = 2 * (6 * DIM**2 + 2 * DIM * FFN) * tokens * LAYERS
    linear += 4 * context * DIM**2 * LAYERS
    attention = (4 * tokens**2 * DIM + 4 * tokens * context * DIM) * LAYERS
    if variant is Variant.ANIMATE:
        linear += 4 * DIM**2 * tokens * (LAYERS // FACE_EVERY)
    traffic = BLOCK_TRAFFIC * tokens / TRAFFIC_TOKENS * LAYERS
    return Forward(linear, attention, traffic)


def block_bytes() -> int:
    """Weights of one block of 14B in 16 bits: six square matrices for the tokens, four for texts and
    pictures, the feed-forward network, norms and biases."""
    square = 10 * (DIM**2 + DIM)
    norms = 7 * DIM
    feed_forward = 2 * DIM * FFN + FFN + DIM
    return (square + norms + feed_forward + 6 * DIM) * _BF16_BYTES


@dataclass(frozen=True)
class Weights:
    """Bytes of each model of a job, as they are on the device."""

    transformer: Footprint
    text: Footprint
    vae: Footprint
    image: Footprint
    on_disk: int
    """Of all files together."""

    @property
    def all(self) -> int:
        """If everything stays."""
        parts = (self.transformer, self.text, self.vae, self.image)
        return sum(part.weights for part in parts)


def job_weights(variant: Variant, is_fp8: bool) -> Weights:
    """By the sizes of the catalog's files.

    Args:
        variant: of the transformer.
        is_fp8: transformer and text encoder in fp8: half of each block.
    """
    animate = variant is Variant.ANIMATE
    whole = _file_bytes(catalog.ANIMATE if animate else catalog.I2V_480P)
    block = block_bytes()
    text = _file_bytes(catalog.UMT5)
    if is_fp8:
        small = _file_bytes(catalog.ANIMATE_FP8 if animate else catalog.FLF2V_FP8)
        whole, block, text = small, block // 2, text // 2
    vae, image = _file_bytes(catalog.VAE), _file_bytes(catalog.CLIP)
    # Of UMT5-XXL's 5.68 B weights 24 blocks are all but the table of 256,384 tokens by 4096.
    stack = int(text * (1 - 256_384 * 4096 / 5.68e9))
    return Weights(
        transformer=Footprint(whole, LAYERS * block, block),
        text=Footprint(text, stack, stack // 24),
        vae=Footprint(2 * vae),  # the file has 16 bits, the device 32
        image=Footprint(image),
        on_disk=whole + text + vae + image,
    )


def _file_bytes(file: catalog.CatalogFile) -> int:
    assert file.gigabytes is not None  # those that are used here all say it
    return int(file.gigabytes * 1e9)


@dataclass(frozen=True)
class Around:
    """What a job computes beside its denoising, in FLOP and bytes."""

    decode: float
    decode_traffic: float
    encode: float
    """In float32, as TF32 where there is that."""
    encode_traffic: float
    text: float
    image: float
    motion: float
    """In float32."""
    pose: float
    rife: float
    edit: float
    segmented: int
    """Frames that SAM2 goes through."""


def around_work(plan: JobPlan) -> Around:
    """Everything but the transformer's forwards."""
    tiles = tile_factor(plan.width, plan.height, plan.tile_size)
    latents = latent_frames(plan.clip_frames)
    volume = plan.width * plan.height * latents / (_VAE_PIXELS * _VAE_LATENTS) * tiles
    # Animate encodes skeleton and known frames of each clip, image to video its first frame.
    encodings = 2 * plan.clips if plan.variant is Variant.ANIMATE else 1
    ratio = _ENCODE_FLOPS / _DECODE_FLOPS
    faces = plan.clip_frames * plan.clips if plan.variant is Variant.ANIMATE else 0
    pairs = plan.saved_frames - plan.frames
    return Around(
        decode=_DECODE_FLOPS * volume * plan.clips,
        decode_traffic=_DECODE_TRAFFIC * volume * plan.clips,
        encode=_ENCODE_FLOPS * volume * encodings,
        encode_traffic=_STOCK_TRAFFIC * ratio * volume * encodings,
        text=_TEXT_FLOPS * plan.branches,
        image=_IMAGE_FLOPS,
        motion=_MOTION_FLOPS * faces,
        pose=_POSE_FLOPS * plan.driving_frames,
        rife=_RIFE_FLOPS * pairs * plan.width * plan.height / _VAE_PIXELS,
        edit=_EDIT_FLOPS * plan.edits,
        segmented=plan.driving_frames if plan.mode is Mode.REPLACEMENT else 0,
    )


def tile_factor(width: int, height: int, tile_size: int) -> float:
    """Pixels that tiles compute, overlaps counted as often as they are computed, per pixel."""
    rows, columns = height // SPATIAL_STRIDE, width // SPATIAL_STRIDE
    plan = plan_tiles(rows, columns, tile_size)
    return sum(len(tile.rows) * len(tile.columns) for tile in plan.tiles) / (rows * columns)
