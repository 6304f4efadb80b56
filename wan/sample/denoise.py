"""The denoising loop of one clip: noise in, latents out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import GeometryError, InputError, ModelError
from ..geometry import latent_shape
from ..memory import transformer_bytes
from ..payloads import ImageCondition, TextEmbeds, VideoLatents, WanModel
from ..progress import Reporter, phase
from ..seeds import draw_noise, make_generator, resolve_seed
from .forward import Branch, predict_velocity
from .guidance import guide
from .schedule import Solver


@dataclass(frozen=True)
class SampleSettings:
    """How a clip is sampled."""

    steps: int = 30
    """Denoising steps, 1 or more."""
    guide_scale: float = 5.0
    """1 runs one forward a step and ignores the negative prompt."""
    solver: str = "unipc"
    """"unipc" or "dpm++"."""
    shift: float = 5.0
    """Above 0."""
    seed: int = -1
    """-1 draws one."""


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
        settings: steps, guidance, solver, shift and seed.
        reporter: told once per step, with a preview of the denoised latents.
    Returns:
        Latents on the CPU, and the seed that was used.
    Raises:
        ModelError: the condition was made for other weights.
        InputError: a setting is out of range, or guidance lacks a negative.
        GeometryError: the condition's tensors do not fit its size.
    """
    solver = Solver(settings.solver, settings.steps, settings.shift)
    _check_fit(model, text, condition, settings)
    seed = resolve_seed(settings.seed)
    if seed != settings.seed:
        reporter.note(f"seed {seed} was drawn")
    shape = latent_shape(condition.width, condition.height, condition.num_frames)
    noise = draw_noise(shape, make_generator(seed))
    config = model.config
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    needed = transformer_bytes(shape, dim, config["ffn_dim"], dtype_bytes=2)
    with model.transformer.on_device(needed) as transformer:
        latents = _denoise(transformer, noise, text, condition, settings, solver, reporter)
    return VideoLatents(latents.cpu(), condition.num_frames, seed)


@torch.inference_mode()
def _denoise(
    transformer: nn.Module,
    noise: Tensor,
    text: TextEmbeds,
    condition: ImageCondition,
    settings: SampleSettings,
    solver: Solver,
    reporter: Reporter,
) -> Tensor:
    weight = transformer.patch_embedding.weight
    device, dtype = weight.device, weight.dtype
    branches = [
        Branch(embeds.to(device, dtype), condition.image_embeds.to(device, dtype))
        for embeds in (text.positive, text.negative if settings.guide_scale != 1 else None)
        if embeds is not None
    ]
    known = torch.cat([condition.mask, condition.latents], dim=1).to(device, dtype)
    latents = noise.to(device)
    with phase(reporter, "sample", settings.steps) as advance:
        for index, timestep in enumerate(solver.timesteps):
            model_input = torch.cat([latents.to(dtype), known], dim=1)
            predictions = [
                predict_velocity(
                    transformer,
                    model_input,
                    timestep[None].to(device),
                    branch,
                    reporter.check_cancelled,
                ).float()
                for branch in branches
            ]
            velocity = predictions[0]
            if len(predictions) == 2:
                velocity = guide(*predictions, settings.guide_scale)
            denoised = latents - float(solver.sigmas[index]) * velocity
            latents = solver.step(velocity, index, latents)
            advance(lambda denoised=denoised: denoised)
    return latents


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
    if settings.guide_scale != 1 and text.negative is None:
        raise InputError(
            what=f"The guidance scale is {settings.guide_scale:g}, and no negative prompt was "
            "encoded.",
            why="Guidance moves away from the negative prompt.",
            fix="Encode a negative prompt, or use a guidance scale of 1.",
        )
    shape = latent_shape(condition.width, condition.height, condition.num_frames)
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
