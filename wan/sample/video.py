"""Image to video: one clip, conditioned on its first frame and perhaps its last."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..errors import GeometryError, ModelError
from ..payloads import ImageCondition, SampleReport, TextEmbeds, VideoLatents, WanModel
from ..progress import Reporter
from ..seeds import draw_noise, make_generator, resolve_seed
from .cross import Branch, count_padding
from .denoise import denoise, describe_run, guided_texts, prepare, ready_transformer
from .forward import embed_context
from .schedule import Solver
from .settings import SampleSettings
from .together import together
from .workload import Workload


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
    Solver(settings.solver, settings.steps, settings.shift)  # refuses what is out of range
    settings.guidance.check_steps(settings.steps)
    _check_fit(model, condition)
    texts = guided_texts(text, settings)
    seed = resolve_seed(settings.seed, reporter)
    noise = draw_noise(condition.shape, make_generator(seed))
    known = torch.cat([condition.mask, condition.latents], dim=1)
    given = (text, condition, replace(settings, seed=seed))
    work = Workload(model, condition.shape, settings, len(texts))
    reporter.note(work.describe())

    def sample() -> tuple[Tensor, SampleReport]:
        with (
            together("video", model, given, reporter) as seat,
            ready_transformer(work, seat) as (transformer, kernel),
        ):
            branches = [_branch(transformer, embeds, condition) for embeds in texts]
            solver = Solver(settings.solver, settings.steps, settings.shift)
            run = prepare(transformer, kernel, model, known, branches, solver, settings, seat)
            return denoise(run, noise, solver), describe_run(run)

    latents, report = work.within_memory(sample, reporter)
    reporter.note(". ".join(filter(None, (report.describe(), model.notice))))
    return VideoLatents(latents, condition.num_frames, seed, report)


def _branch(transformer: nn.Module, text: Tensor, condition: ImageCondition) -> Branch:
    weight = transformer.patch_embedding.weight
    images = condition.image_embeds.to(weight.device, weight.dtype)
    context = embed_context(transformer, text.to(weight.device, weight.dtype), images)
    return Branch(context, padding=count_padding(text))


def _check_fit(model: WanModel, condition: ImageCondition) -> None:
    if condition.variant is not model.variant:
        raise ModelError(
            what=f"The conditioning was made for {condition.variant.value} weights, "
            f"but {model.name!r} is {model.variant.value}.",
            why="Each kind of weights is conditioned in its own way.",
            fix="Connect the same model to the conditioning node and to the sampler.",
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
