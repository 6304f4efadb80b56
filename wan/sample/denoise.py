"""The denoising loop, the same for every kind of Wan: noise in, latents out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..geometry import LatentShape
from ..kernels import Product, as_loaded, fp8_problem, in_fp8
from ..parallel import Split
from ..parallel.seat import Seat
from ..payloads import SampleReport, TextEmbeds, WanModel
from ..progress import Reporter, phase
from ..switch import uses_own_forward
from .attention import Kernel, attention_kernel
from .cache import ResidualCache, RunFacts, SkipPlan, compute_all
from .cross import Branch
from .forward import Moment, Network, Step, embed_time, predict_velocities
from .rope import Rotary, riflex_applies, rotary_tables
from .schedule import Solver
from .settings import AS_LOADED, LINEARS, SampleSettings
from .workload import Workload


@dataclass(frozen=True)
class Denoiser:
    """What stays the same from step to step. The tensors are on the transformer's device."""

    network: Network
    kernel: str
    """What computes attention, as a user reads it."""
    moments: Sequence[Moment]
    """One per step."""
    known: Tensor
    """[1, 20, T, H/8, W/8]: mask and conditioning latents."""
    branches: Sequence[Branch]
    """Conditional first; the second one only where there is guidance."""
    plan: SkipPlan
    residuals: ResidualCache
    settings: SampleSettings
    reporter: Reporter


@contextmanager
def ready_transformer(work: Workload, seat: Seat) -> Iterator[tuple[nn.Module, Kernel]]:
    """The transformer on its device with the wanted attention kernel, inside the block; with
    several ranks, on the devices of all.

    Args:
        work: what will be sampled; tells the memory that is needed.
        seat: this process's place among the ranks.
    Yields:
        The transformer and the kernel that runs.
    """
    model = work.model
    with model.transformer.on_device(work.nbytes) as transformer, torch.inference_mode():
        weight = transformer.patch_embedding.weight
        head_dim = model.config["attention_head_dim"]
        attention = work.settings.options.attention
        device, dtype, reporter = weight.device, weight.dtype, seat.reporter
        with attention_kernel(attention, device, dtype, head_dim, reporter) as kernel:
            seat.meet()
            yield transformer, kernel


def prepare(
    transformer: nn.Module,
    kernel: Kernel,
    model: WanModel,
    known: Tensor,
    branches: Sequence[Branch],
    solver: Solver,
    settings: SampleSettings,
    seat: Seat,
    pose: Tensor | None = None,
) -> Denoiser:
    """Make everything that all steps share, and tell what is skipped and stretched.

    Args:
        transformer, kernel: from `ready_transformer`.
        known: [1, 20, T, H/8, W/8] on any device.
        branches: see `Denoiser`.
        seat: this process's place among the ranks.
        pose: see `Network`.
    """
    weight, reporter = transformer.patch_embedding.weight, seat.reporter
    shape = LatentShape(*known.shape[2:])
    split = None if seat.group is None else Split(seat.group, shape.tokens)
    _tell_riflex(model, shape, settings, reporter)
    known = known.to(weight.device, weight.dtype)
    product = _product(settings.options.linears, weight, reporter)
    tables = rotary_tables(transformer.rope, shape, settings.options.riflex, weight.device)
    if split is not None:
        tables = (split.own(tables[0]), split.own(tables[1]))
    return Denoiser(
        network=Network(transformer, Rotary.of(tables), kernel.attend, product, pose, split=split),
        kernel=kernel.name,
        moments=[embed_time(transformer, t[None], known) for t in solver.timesteps],
        known=known,
        branches=branches,
        plan=_skip_plan(transformer, model, solver, settings, seat),
        residuals=ResidualCache(),
        settings=settings,
        reporter=reporter,
    )


def _product(linears: str, weight: Tensor, reporter: Reporter) -> Product:
    if linears not in LINEARS:
        raise InputError(
            what=f"linears is {linears!r}.",
            why="It says how the linear layers multiply.",
            fix=f"Use one of: {', '.join(LINEARS)}.",
        )
    if linears == AS_LOADED:
        return as_loaded
    problem = (
        fp8_problem(weight.device, weight.dtype)
        if uses_own_forward()
        else "WAN_LOCAL_FORWARD is diffusers"
    )
    if problem:
        reporter.note(f"linears: fp8 cannot be used ({problem}), they multiply as loaded")
        return as_loaded
    return in_fp8


def denoise(run: Denoiser, noise: Tensor, solver: Solver) -> Tensor:
    """Walk through all steps.

    Args:
        run: from `prepare`.
        noise: [1, 16, T, H/8, W/8] float32 on any device.
        solver: fresh, of the run's settings.
    Returns:
        Latents of the same shape, float32 on the CPU.
    """
    latents = noise.to(run.known.device)
    with phase(run.reporter, "sample", run.settings.steps) as advance:
        for index in range(run.settings.steps):
            velocity = _velocity(run, latents, index)
            preview = partial(_denoised, latents, velocity, float(solver.sigmas[index]))
            latents = solver.step(velocity, index, latents)
            advance(preview)
    return latents.cpu()


def _denoised(latents: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """What the prediction of a step says of the result."""
    return latents - sigma * velocity


def describe_run(run: Denoiser) -> SampleReport:
    """What was computed and skipped in a finished run."""
    steps = range(run.settings.steps)
    branches = [
        sum(len(group) for group in _groups(run, step))
        for step in steps
        if run.settings.guidance.runs_model(step)
    ]
    computed = run.plan.compute[run.plan.zeroed_steps :]
    forwards = sum(count for count, flag in zip(branches, computed, strict=True) if flag)
    cache = run.plan.describe() if run.settings.cache else ""
    return SampleReport(forwards, sum(branches) - forwards, run.kernel, cache)


def guided_texts(text: TextEmbeds, settings: SampleSettings) -> list[Tensor]:
    """The text of each branch of guidance.

    Raises:
        InputError: there is guidance, and no negative prompt was encoded.
    """
    if not settings.guidance.is_guided:
        return [text.positive]
    if text.negative is None:
        raise InputError(
            what=f"The guidance scale is {settings.guidance.scale:g}, and no negative prompt was "
            "encoded.",
            why="Guidance moves away from the negative prompt.",
            fix="Encode a negative prompt, or use a guidance scale of 1.",
        )
    return [text.positive, text.negative]


def _velocity(run: Denoiser, latents: Tensor, index: int) -> Tensor:
    guidance = run.settings.guidance
    if not guidance.runs_model(index):
        return torch.zeros_like(latents)
    hidden = torch.cat([latents.to(run.known.dtype), run.known], dim=1)
    predictions: list[Tensor] = []
    for group in _groups(run, index):
        predictions += predict_velocities(
            run.network,
            hidden,
            run.moments[index],
            [run.branches[number] for number in group],
            Step(run.residuals, run.plan.compute[index], run.plan.is_reused(index), group),
            run.reporter.check_cancelled,
        )
    unconditional = predictions[1] if len(predictions) == 2 else None
    return guidance.combine(index, predictions[0], unconditional)


def _groups(run: Denoiser, index: int) -> list[tuple[int, ...]]:
    """Which branches go through the weights together in this step."""
    if not run.settings.guidance.needs_unconditional(index):
        return [(0,)]
    return [(0, 1)] if run.settings.options.joint_pass else [(0,), (1,)]


def _skip_plan(
    transformer: nn.Module,
    model: WanModel,
    solver: Solver,
    settings: SampleSettings,
    seat: Seat,
) -> SkipPlan:
    zeroed = settings.guidance.zero_init_steps
    facts = RunFacts(transformer, solver.timesteps, model.name, model.variant, zeroed)
    if not settings.cache:
        return compute_all(settings.steps, facts.zeroed_steps)
    plan = settings.cache.plan(facts)
    if seat.group is not None:
        # Devices of another kind round otherwise, and may find a step on the other side of the line.
        plan = replace(plan, compute=seat.group.agree(plan.compute))
    seat.reporter.note(plan.describe())
    return plan


def _tell_riflex(
    model: WanModel, shape: LatentShape, settings: SampleSettings, reporter: Reporter
) -> None:
    if settings.options.riflex:
        head_dim = model.config["attention_head_dim"]
        applies = riflex_applies(settings.options.riflex, shape.frames, head_dim)
        reporter.note(
            f"RIFLEx {'is applied' if applies else 'is not needed'} at {shape.frames} latent frames"
        )
