"""The denoising loop of one clip: noise in, latents out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import GeometryError, InputError, ModelError
from ..memory import transformer_bytes
from ..payloads import ImageCondition, SampleReport, TextEmbeds, VideoLatents, WanModel
from ..progress import Reporter, phase
from ..seeds import draw_noise, make_generator, resolve_seed
from .attention import attention_kernel
from .cache import CachePolicy, ResidualCache, RunFacts, SkipPlan, compute_all
from .forward import Branch, Rotary, Step, predict_velocities
from .guidance import Guidance
from .rope import Riflex, riflex_applies, rotary_tables
from .schedule import Solver

PLAIN_GUIDANCE = Guidance(cfg_star=False)


@dataclass(frozen=True)
class SampleOptions:
    """What most runs leave as it is."""

    riflex: Riflex | None = None
    """For videos longer than the model was trained on."""
    joint_pass: bool = False
    """Both guidance branches in one pass through the weights: the same result, and weights that
    are streamed in are streamed once a step. Costs one more copy of the activations."""
    attention: str = "sdpa"
    """"sdpa" or "sage"."""


PLAIN_OPTIONS = SampleOptions()


@dataclass(frozen=True)
class SampleSettings:
    """How a clip is sampled. What is left out is off."""

    steps: int = 30
    """Denoising steps, 1 or more."""
    guidance: Guidance = field(default=PLAIN_GUIDANCE)
    """Scale 1 runs one forward a step and ignores the negative prompt."""
    solver: str = "unipc"
    """"unipc" or "dpm++"."""
    shift: float = 5.0
    """Above 0."""
    seed: int = -1
    """-1 draws one."""
    cache: CachePolicy | None = None
    """Which steps to skip; None computes all."""
    options: SampleOptions = field(default=PLAIN_OPTIONS)


@dataclass(frozen=True)
class _Run:
    """What stays the same from step to step."""

    transformer: nn.Module
    known: Tensor
    """[1, 20, T, H/8, W/8]: mask and conditioning latents."""
    branches: list[Branch]
    rotary: Rotary
    plan: SkipPlan
    residuals: ResidualCache
    settings: SampleSettings
    reporter: Reporter


def sample_video(
    model: WanModel,
    text: TextEmbeds,
    condition: ImageCondition,
    settings: SampleSettings,
    reporter: Reporter,
) -> VideoLatents:
    """Sample an image-to-video clip.

    Args:
        model: I2V or FLF2V weights.
        text: embedded prompts; the negative may be missing only without guidance.
        condition: frames given.
        settings: steps, guidance, solver and options.
        reporter: told once per step, with a preview of the denoised latents.
    Returns:
        Latents on the CPU, the seed that was used, and what was computed.
    Raises:
        ModelError: the condition was made for other weights.
        InputError: a setting is out of range, or guidance lacks a negative.
        GeometryError: the condition's tensors do not fit its size.
    """
    solver = Solver(settings.solver, settings.steps, settings.shift)
    settings.guidance.check_steps(settings.steps)
    _check_fit(model, text, condition, settings)
    seed = resolve_seed(settings.seed)
    if seed != settings.seed:
        reporter.note(f"seed {seed} was drawn")
    noise = draw_noise(condition.shape, make_generator(seed))
    with (
        model.transformer.on_device(_memory(model, text, condition, settings)) as transformer,
        torch.inference_mode(),
    ):
        weight = transformer.patch_embedding.weight
        head_dim = model.config["attention_head_dim"]
        with attention_kernel(
            settings.options.attention, weight.device, weight.dtype, head_dim, reporter
        ) as kernel:
            run = _prepare(transformer, model, text, condition, settings, solver, reporter)
            latents = _denoise(run, noise.to(weight.device), solver).cpu()
    report = _report(run, kernel)
    reporter.note(report.describe())
    return VideoLatents(latents, condition.num_frames, seed, report)


def _prepare(
    transformer: nn.Module,
    model: WanModel,
    text: TextEmbeds,
    condition: ImageCondition,
    settings: SampleSettings,
    solver: Solver,
    reporter: Reporter,
) -> _Run:
    weight = transformer.patch_embedding.weight
    device, dtype = weight.device, weight.dtype
    facts = RunFacts(
        transformer,
        solver.timesteps,
        model.name,
        model.variant,
        settings.guidance.zero_init_steps,
    )
    plan = (
        settings.cache.plan(facts)
        if settings.cache
        else compute_all(settings.steps, facts.zeroed_steps)
    )
    if settings.cache:
        reporter.note(plan.describe())
    if settings.options.riflex:
        head_dim = model.config["attention_head_dim"]
        applies = riflex_applies(settings.options.riflex, condition.shape.frames, head_dim)
        reporter.note(
            f"RIFLEx {'is applied' if applies else 'is not needed'} "
            f"at {condition.shape.frames} latent frames"
        )
    return _Run(
        transformer=transformer,
        known=torch.cat([condition.mask, condition.latents], dim=1).to(device, dtype),
        branches=[
            Branch(embeds.to(device, dtype), condition.image_embeds.to(device, dtype))
            for embeds in _texts(text, settings)
        ],
        rotary=rotary_tables(transformer.rope, condition.shape, settings.options.riflex, device),
        plan=plan,
        residuals=ResidualCache(),
        settings=settings,
        reporter=reporter,
    )


def _denoise(run: _Run, latents: Tensor, solver: Solver) -> Tensor:
    with phase(run.reporter, "sample", run.settings.steps) as advance:
        for index, timestep in enumerate(solver.timesteps):
            velocity = _velocity(run, latents, timestep, index)
            denoised = latents - float(solver.sigmas[index]) * velocity
            latents = solver.step(velocity, index, latents)
            advance(lambda denoised=denoised: denoised)
    return latents


def _velocity(run: _Run, latents: Tensor, timestep: Tensor, index: int) -> Tensor:
    guidance = run.settings.guidance
    if not guidance.runs_model(index):
        return torch.zeros_like(latents)
    hidden = torch.cat([latents.to(run.known.dtype), run.known], dim=1)
    predictions: list[Tensor] = []
    for group in _groups(run, index):
        predictions += predict_velocities(
            run.transformer,
            hidden,
            timestep[None].to(hidden.device),
            [run.branches[number] for number in group],
            run.rotary,
            Step(run.residuals, run.plan.compute[index], run.plan.is_reused(index), group),
            run.reporter.check_cancelled,
        )
    unconditional = predictions[1] if len(predictions) == 2 else None
    return guidance.combine(index, predictions[0], unconditional)


def _groups(run: _Run, index: int) -> list[tuple[int, ...]]:
    """Which branches go through the weights together in this step."""
    if not run.settings.guidance.needs_unconditional(index):
        return [(0,)]
    return [(0, 1)] if run.settings.options.joint_pass else [(0,), (1,)]


def _memory(
    model: WanModel, text: TextEmbeds, condition: ImageCondition, settings: SampleSettings
) -> int:
    """Bytes of activations: one forward, and what is kept beside it at 16 bits."""
    config = model.config
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    branches = len(_texts(text, settings))
    kept = (branches if settings.cache else 0) + (
        branches - 1 if settings.options.joint_pass else 0
    )
    forward = transformer_bytes(condition.shape, dim, config["ffn_dim"], dtype_bytes=2)
    return forward + kept * condition.shape.tokens * dim * 2


def _texts(text: TextEmbeds, settings: SampleSettings) -> list[Tensor]:
    if settings.guidance.is_guided and text.negative is not None:
        return [text.positive, text.negative]
    return [text.positive]


def _report(run: _Run, kernel: str) -> SampleReport:
    steps = range(run.settings.steps)
    branches = [
        sum(len(group) for group in _groups(run, step))
        for step in steps
        if run.settings.guidance.runs_model(step)
    ]
    computed = run.plan.compute[run.plan.zeroed_steps :]
    forwards = sum(count for count, flag in zip(branches, computed, strict=True) if flag)
    cache = run.plan.describe() if run.settings.cache else ""
    return SampleReport(forwards, sum(branches) - forwards, kernel, cache)


def _check_fit(
    model: WanModel, text: TextEmbeds, condition: ImageCondition, settings: SampleSettings
) -> None:
    if condition.variant is not model.variant:
        raise ModelError(
            what=f"The conditioning was made for {condition.variant.value} weights, "
            f"but {model.name!r} is {model.variant.value}.",
            why="Each kind of weights is conditioned in its own way.",
            fix="Connect the same model to the conditioning node and to the sampler.",
        )
    if settings.guidance.is_guided and text.negative is None:
        raise InputError(
            what=f"The guidance scale is {settings.guidance.scale:g}, and no negative prompt was "
            "encoded.",
            why="Guidance moves away from the negative prompt.",
            fix="Encode a negative prompt, or use a guidance scale of 1.",
        )
    shape = condition.shape
    expected = (shape.frames, shape.height, shape.width)
    for name, tensor in (("latents", condition.latents), ("mask", condition.mask)):
        if tuple(tensor.shape[2:]) != expected:
            raise GeometryError(
                what=f"The conditioning {name} are {tuple(tensor.shape[2:])} latent frames, "
                f"rows and columns, not {expected}.",
                why=f"{condition.num_frames} frames of {condition.width}x{condition.height} "
                "pixels were announced.",
                fix="Make the conditioning again with Wan Image to Video.",
            )
