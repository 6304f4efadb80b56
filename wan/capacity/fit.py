"""Whether a job fits on a kind of GPU, by the estimates that a run itself goes by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import torch

from ..errors import OutOfVramError
from ..memory import FLOAT32_BYTES, vae_decode_bytes, vae_encode_bytes
from ..payloads import WanModel
from ..residency import DevicePlacement, Footprint, Part, gigabytes
from ..residency.offload import MARGIN
from ..sample.workload import Workload
from ..tiling import TILE_SIZES
from .gpus import FP8, PRECISIONS, GpuKind
from .job import JobPlan
from .work import ACTIVATION_BYTES, DIM, FFN, HEADS, Weights, job_weights

TOGETHER, IN_TURN, STREAMED = "all models stay", "models in turn", "blocks streamed"


@dataclass(frozen=True)
class Fit:
    """How a job sits on a GPU."""

    precision: str
    """Of the weights of transformer and text encoder: "bf16" or "fp8"."""
    how: str
    """`TOGETHER`, `IN_TURN` or `STREAMED`."""
    needed: int
    """Bytes at the fullest moment."""
    room: int
    """Bytes that there are."""
    work: int
    """Of these what sampling takes beside the weights."""
    host: int
    """Bytes of pinned RAM for blocks that are streamed. All other weights are mapped from their files
    and shared by the workers of a machine."""
    tile_size: int
    """Of the VAE: smaller than asked for where whole pictures do not fit."""
    moved: int
    """Bytes of weights that go to the device once a job."""
    streamed: int
    """Bytes of blocks that go to the device with each pass."""
    weights: Weights

    @property
    def is_streamed(self) -> bool:
        """Whether the transformer visits the device block by block."""
        return self.how == STREAMED


def find_fit(plan: JobPlan, kind: GpuKind, precision: str, ranks: int = 1) -> Fit | None:
    """The quickest way for a job to fit, or None.

    Args:
        precision: of the weights.
        ranks: GPUs that share the tokens of one job; each holds all weights.
    """
    weights = job_weights(plan.variant, precision == FP8)
    room = kind.room
    work = -(-sampling_work(plan, weights).nbytes // ranks)
    tile = _fitting_tile(plan, weights, room)
    if tile is None:
        return None
    vae = vae_bytes(plan, tile)
    text = _placement(room)
    encoder = _part("text encoder", weights.text, text, "encoder.block")
    estimate = encoder.estimate(0)
    text_bytes = weights.text.weights if estimate.fits_whole else weights.text.streamed
    most = max(work, vae)
    turns = max(weights.vae.weights + vae, text_bytes)
    whole = weights.transformer.weights + work
    parts = _part("transformer", weights.transformer, text, "blocks").estimate(work)
    if weights.all + most + MARGIN <= room:
        found = (TOGETHER, weights.all + most, 0, 0)
    elif parts.fits_whole:
        found = (IN_TURN, max(whole, turns), weights.all, 0)
    elif weights.transformer.streamed + work + MARGIN <= room and turns + MARGIN <= room:
        rest = weights.all - weights.transformer.stack
        needed = max(weights.transformer.streamed + work, turns)
        found = (STREAMED, needed, rest, weights.transformer.stack)
    else:
        return None
    how, needed, moved, streamed = found
    host = streamed + (0 if estimate.fits_whole else weights.text.stack)
    return Fit(precision, how, needed, room, work, host, tile, moved, streamed, weights)


def choose_fit(plan: JobPlan, kind: GpuKind, precision: str, ranks: int = 1) -> Fit | None:
    """`find_fit` with "auto": 16 bits if that fits anyhow, else fp8."""
    if precision != "auto":
        return find_fit(plan, kind, precision, ranks)
    found = (find_fit(plan, kind, one, ranks) for one in PRECISIONS)
    return next((fit for fit in found if fit), None)


def sampling_work(plan: JobPlan, weights: Weights) -> Workload:
    """The project's own estimate of a clip, for a model that is never loaded."""
    config = {"num_attention_heads": HEADS, "attention_head_dim": DIM // HEADS, "ffn_dim": FFN}
    part = _part("transformer", weights.transformer, _placement(None), "blocks")
    unused = cast(Any, None)
    model = WanModel("14B", plan.variant, config, part, unused, unused, unused, unused)
    return Workload(model, plan.shape, plan.settings, plan.branches)


def vae_bytes(plan: JobPlan, tile_size: int) -> int:
    """The larger of encoding (float32) and decoding (16 bits), with frames one by one."""
    size = (plan.width, plan.height, tile_size)
    encode = vae_encode_bytes(*size, FLOAT32_BYTES, is_frugal=True)
    decode = vae_decode_bytes(*size, plan.clip_frames, ACTIVATION_BYTES, is_frugal=True)
    return max(encode, decode)


def too_large(plan: JobPlan, kinds: list[GpuKind], precision: str, ranks: int) -> OutOfVramError:
    """The error for a job that fits on none of some kinds: how much is missing, what would help."""
    largest = max(kinds, key=lambda kind: kind.room)
    best = FP8 if precision == "auto" else precision
    weights = job_weights(plan.variant, best == FP8)
    work = sampling_work(plan, weights)
    sampling = weights.transformer.streamed - (-work.nbytes // ranks)
    coding = weights.vae.weights + vae_bytes(plan, _smallest_tile())
    needed = max(sampling, coding) + MARGIN
    cures = list(_cures(work, best)) if sampling >= coding else ["make the video smaller"]
    fix = "; or ".join(cures)
    return OutOfVramError(
        what=f"The job fits on none of {', '.join(kind.name for kind in kinds)}.",
        why=f"With streamed blocks it needs {gigabytes(needed)}, and {largest.name} has "
        f"{gigabytes(largest.room)}: {gigabytes(max(0, needed - largest.room))} are missing.",
        fix=f"{fix[0].upper()}{fix[1:]}; or take GPUs with more memory; or --gpus-per-job "
        f"{2 * ranks}, which shares the work.",
    )


def _cures(work: Workload, precision: str) -> Iterator[str]:
    cures = sorted((c for c in work.cures() if c.saves > 0), key=lambda cure: -cure.saves)
    for cure in cures[:3]:
        if "GGUF" in cure.text and precision == FP8:
            continue
        yield f"{cure.text} ({gigabytes(cure.saves)} less)"


def _smallest_tile() -> int:
    return min(size for size in TILE_SIZES if size)


def _fitting_tile(plan: JobPlan, weights: Weights, room: int) -> int | None:
    """The largest tiles, no larger than asked for, with which the VAE fits alone."""
    sizes = sorted((s for s in TILE_SIZES if s and s < (plan.tile_size or 10**9)), reverse=True)
    for tile in (plan.tile_size, *sizes):
        if weights.vae.weights + vae_bytes(plan, tile) + MARGIN <= room:
            return tile
    return None


def _placement(room: int | None) -> DevicePlacement:
    return DevicePlacement(torch.device("cuda"), room=lambda: room)


def _part(name: str, footprint: Footprint, placement: DevicePlacement, stack: str) -> Part[Any]:
    def load() -> NoReturn:
        raise AssertionError("nothing is loaded to plan")

    return Part(name, load, placement, footprint, stack)
