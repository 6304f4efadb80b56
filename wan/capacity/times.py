"""Seconds that a job takes on a kind of GPU, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass

from ..payloads import Variant
from .figures import Figure, measured, modelled
from .fit import Fit
from .host import SHIPPED, HostFigures
from .job import JobPlan, plan_job
from .parallel import EFFECTIVE, exchanged
from .rates import Rates
from .work import LAYERS, Around, Forward, around_work, forward_work

# facebookresearch/sam2 issue 264: SAM2 large goes through 15 frames a second on an RTX 3090
_SEGMENT_SECONDS, _SEGMENT_TFLOPS = 1 / 15, 71e12


@dataclass(frozen=True)
class Times:
    """Of one warm job, in seconds."""

    step: Figure
    """A computed step: all branches, every GPU of the job."""
    stages: dict[str, Figure]
    """By name, in running order."""
    load: Figure
    """Reading all weights once, before a worker's first job."""
    links: Figure
    """Of `step` what GPUs wait for each other."""

    @property
    def job(self) -> Figure:
        """All stages but the load."""
        total = sum(stage.value for stage in self.stages.values())
        return modelled(total, "s", "sum of the stages")


def job_times(
    plan: JobPlan,
    fit: Fit,
    rates: Rates,
    ranks: int,
    disk: float,
    host: HostFigures = SHIPPED,
) -> Times:
    """How long a job takes.

    Args:
        plan: the job.
        fit: how it sits on each GPU.
        rates: of the GPUs.
        ranks: GPUs of the job.
        disk: GB/s at which weights are read.
        host: what its processor takes for frames.
    """
    forward = forward_work(plan.shape, plan.variant)
    around = around_work(plan)
    wait = 0.0
    if ranks > 1:
        sent = exchanged(plan.shape.tokens, ranks)
        wait = plan.branches * sent / (EFFECTIVE * rates.peer.value)
    step = step_seconds(plan, fit, rates, forward, ranks, wait)
    skipped = (plan.steps - plan.computed) * rates.skipped.value
    sampling = modelled(
        plan.clips * step.value * (plan.computed + skipped),
        "s",
        f"{plan.clips} x {plan.computed} computed steps, {plan.steps - plan.computed} skipped",
    )
    stages = {
        "preprocess": _preprocess(plan, around, rates, host),
        "encode": _encode(plan, fit, around, rates),
        "sample": sampling,
        "decode": _decode(plan, around, rates),
        "finish": _finish(plan, around, rates, host),
    }
    load = modelled(
        fit.weights.on_disk / (disk * 1e9),
        "s",
        f"{fit.weights.on_disk / 1e9:.1f} GB at {disk:g} GB/s",
    )
    links = modelled(wait, "s", f"{EFFECTIVE:.0%} of {rates.peer.value / 1e9:g} GB/s")
    return Times(step, stages, load, links)


def step_seconds(
    plan: JobPlan, fit: Fit, rates: Rates, forward: Forward, ranks: int, wait: float
) -> Figure:
    """One computed step. Streamed blocks arrive while others compute; the first one never does."""
    alone = rates.forward_seconds(forward)
    compute = plan.branches * alone / ranks + wait
    found = rates.measurements
    if not fit.is_streamed:
        is_exact = found is not None and plan.shape.tokens in found.forward and ranks == 1
        if found is not None and is_exact and plan.variant is Variant.I2V:
            return measured(compute, "s", f"{found.source}: B2, {plan.shape.tokens} tokens")
        return modelled(compute, "s", rates.linear.source)
    passes = 1 if plan.settings.options.joint_pass else plan.branches
    transfer = passes * fit.streamed / rates.link.value
    first = passes * fit.streamed / LAYERS / rates.link.value
    source = "blocks arrive while others compute"
    if transfer > compute:
        source = f"the link of {rates.link.value / 1e9:g} GB/s is slower than the GPU"
    return modelled(max(compute, transfer) + first, "s", source)


def _preprocess(plan: JobPlan, around: Around, rates: Rates, host: HostFigures) -> Figure:
    pixels = plan.driving_frames * plan.width * plan.height
    seconds = pixels * host.read + around.pose / rates.networks.value
    share = rates.networks.value / (0.1 * _SEGMENT_TFLOPS)
    seconds += around.segmented * _SEGMENT_SECONDS / share
    seconds += around.edit / rates.linear.value
    return modelled(seconds, "s", f"poses on the GPU; reading as in {host.source}")


def _encode(plan: JobPlan, fit: Fit, around: Around, rates: Rates) -> Figure:
    seconds = (around.text + around.image) / rates.linear.value
    seconds += around.motion / rates.float32.value
    vae = around.encode / rates.encode.value + around.encode_traffic / rates.memory.value
    vae *= _against_measured(plan, rates, "encode", vae)
    moved = fit.moved / rates.link.value
    note = f", {fit.moved / 1e9:.1f} GB of weights brought" if fit.moved else ""
    return modelled(seconds + vae + moved, "s", f"VAE, texts, pictures{note}")


def _decode(plan: JobPlan, around: Around, rates: Rates) -> Figure:
    vae = around.decode / rates.decode.value + around.decode_traffic / rates.memory.value
    vae *= _against_measured(plan, rates, "decode", vae)
    return modelled(vae, "s", "FLOP and bytes of the VAE")


def _against_measured(plan: JobPlan, rates: Rates, what: str, seconds: float) -> float:
    """A factor that brings the formula to what was measured, per pixel and frame."""
    found = rates.measurements
    if found is None or seconds <= 0:
        return 1.0
    area = plan.width * plan.height
    sizes = {"480p": 832 * 480, "720p": 1280 * 720}
    known = [name for name in sizes if f"{what} {name}" in found.vae]
    if not known:
        return 1.0
    near = min(known, key=lambda name: abs(sizes[name] - area))
    work = _whole_pictures(sizes[near])
    flops, traffic = (
        (work.decode, work.decode_traffic)
        if what == "decode"
        else (work.encode, work.encode_traffic)
    )
    rate = rates.decode.value if what == "decode" else rates.encode.value
    return found.vae[f"{what} {near}"] / (flops / rate + traffic / rates.memory.value)


def _whole_pictures(area: int) -> Around:
    """The VAE's work on 81 frames of so many pixels, in whole pictures."""
    size = "1280x720" if area == 1280 * 720 else "832x480"
    return around_work(plan_job("wan2-1-i2v", {"size": size, "vae_tile_size": 0}))


def _finish(plan: JobPlan, around: Around, rates: Rates, host: HostFigures) -> Figure:
    pixels = plan.saved_frames * plan.width * plan.height
    resized = pixels * plan.size_factor**2
    seconds = resized * host.save + pixels * host.lanczos[plan.size_factor]
    seconds += around.rife / rates.networks.value
    return modelled(seconds, "s", f"saving and resizing as in {host.source}")
