"""One clip of a character animation: noise and conditions in, latents out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ..geometry import LatentShape
from ..payloads import ClipCondition, SampleReport, TextEmbeds, WanModel, expect_animate
from ..progress import Reporter
from .cross import Branch, count_padding
from .denoise import denoise, describe_run, guided_texts, prepare, ready_transformer
from .face import embed_face, encode_motion, encode_no_motion
from .forward import embed_context, embed_pose
from .schedule import Solver
from .settings import SampleSettings
from .together import together
from .workload import Workload


@dataclass(frozen=True)
class ClipLatents:
    """A sampled clip before decoding."""

    latents: Tensor
    """[1, 16, n+1, H/8, W/8] float32 on the CPU; the reference's latent frame is dropped."""
    report: SampleReport


def clip_shape(condition: ClipCondition) -> LatentShape:
    """Shape of the latents that are sampled: one latent frame more than the clip has."""
    return LatentShape(*condition.known.shape[2:])


def sample_clip(
    model: WanModel,
    text: TextEmbeds,
    condition: ClipCondition,
    settings: SampleSettings,
    noise: Tensor,
    reporter: Reporter,
) -> ClipLatents:
    """Sample one clip.

    What does not change from step to step is computed once: motion of the face, keys and values
    of the face adapters, embeddings of pose, text and picture.

    Args:
        model: Animate weights.
        text: embedded prompts; the negative may be missing only without guidance.
        condition: from `encode_clip`.
        settings: a guidance scale above 1 runs a second branch a step, with the negative text and
            without a face, which strengthens the expression. The seed is not used.
        noise: [1, 16, n+2, H/8, W/8] float32.
        reporter: told once per step, with a preview of the denoised latents.
    Raises:
        ModelError: the model is of another variant.
        InputError: a setting is out of range, or guidance lacks a negative.
    Source: Wan2.2 wan/animate.py, generate.
    """
    expect_animate(model)
    Solver(settings.solver, settings.steps, settings.shift)  # refuses what is out of range
    settings.guidance.check_steps(settings.steps)
    texts = guided_texts(text, settings)
    work = Workload(model, clip_shape(condition), settings, len(texts))

    def sample() -> ClipLatents:
        with (
            together("clip", model, (text, condition, settings, noise), reporter) as seat,
            ready_transformer(work, seat) as (transformer, kernel),
        ):
            weight = transformer.patch_embedding.weight
            branches = _branches(transformer, texts, condition, seat.reporter)
            pose = embed_pose(transformer, condition.pose.to(weight.device, weight.dtype))
            solver = Solver(settings.solver, settings.steps, settings.shift)
            known = condition.known
            run = prepare(transformer, kernel, model, known, branches, solver, settings, seat, pose)
            latents = denoise(run, noise, solver)
            return ClipLatents(latents[:, :, 1:], describe_run(run))

    return work.within_memory(sample, reporter)


def _branches(
    transformer: nn.Module, texts: list[Tensor], condition: ClipCondition, reporter: Reporter
) -> list[Branch]:
    weight = transformer.patch_embedding.weight
    images = condition.image_embeds.to(weight.device, weight.dtype)
    motions = [encode_motion(transformer, condition.faces, reporter.check_cancelled)]
    if len(texts) > 1:
        motions.append(encode_no_motion(transformer, len(condition.faces)))
    return [
        Branch(
            embed_context(transformer, embeds.to(weight.device, weight.dtype), images),
            embed_face(transformer, motion),
            count_padding(embeds),
        )
        for embeds, motion in zip(texts, motions, strict=True)
    ]
