"""One pass through a Wan transformer, opened up where caches, progress and cancel need in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import GeometryError
from ..geometry import TEXT_TOKENS
from .cache import ResidualCache
from .face import FaceKeys, attend_to_face

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Branch:
    """What one prediction is conditioned on, embedded once for all steps."""

    context: Tensor
    """[1, image tokens + 512, dim] in the transformer's precision: images first, then text."""
    faces: tuple[FaceKeys, ...] = ()
    """One per face adapter of an Animate transformer; none on the others."""


@dataclass(frozen=True)
class Step:
    """What a step does with the cache."""

    residuals: ResidualCache
    is_computed: bool = True
    """False repeats the change of the last computed step instead of running the blocks."""
    is_reused: bool = False
    """Whether a later step will repeat this one's change."""
    numbers: tuple[int, ...] = (0,)
    """Which branches these are to the cache: 0 conditional, 1 unconditional."""


def embed_context(transformer: nn.Module, text: Tensor, images: Tensor) -> Tensor:
    """What the cross-attention of every block looks at.

    Args:
        transformer: a diffusers Wan transformer.
        text: [1, 512, text_dim] in its precision, on its device.
        images: [images, tokens, image_dim], likewise.
    Returns:
        [1, image tokens + 512, dim]. Image tokens first: the blocks split the two at 512 from
        the end.
    Raises:
        GeometryError: the text is of another length, with which they would split elsewhere.
    """
    if text.shape[1] != TEXT_TOKENS:
        raise GeometryError(
            what=f"The text has {text.shape[1]} tokens.",
            why=f"The transformer tells text from picture by the last {TEXT_TOKENS} tokens: another "
            "length would be read wrongly without a word.",
            fix=f"Encode the prompt with Wan Prompt Encode, which fills up to {TEXT_TOKENS}.",
        )
    embedder = transformer.condition_embedder
    return torch.cat([embedder.image_embedder(images), embedder.text_embedder(text)], dim=1)


def embed_time(transformer: nn.Module, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The time embedding and the modulation of the blocks.

    Args:
        timestep: [1] int64.
        like: a tensor of the precision that is wanted.
    Returns:
        [1, dim] and [1, 6, dim].
    """
    embedder = transformer.condition_embedder
    weight = next(embedder.time_embedder.parameters())
    waves = embedder.timesteps_proj(timestep).to(weight.dtype)
    time = embedder.time_embedder(waves).type_as(like)
    return time, embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1))


def embed_pose(transformer: nn.Module, pose: Tensor) -> Tensor:
    """Tokens that the pose video adds to those of the latents.

    Args:
        transformer: a diffusers `WanAnimateTransformer3DModel`.
        pose: [1, 16, T, H/8, W/8] in its precision, on its device.
    Returns:
        [1, dim, T, H/16, W/16].
    """
    return transformer.pose_patch_embedding(pose)


def predict_velocities(
    transformer: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    branches: Sequence[Branch],
    rotary: Rotary,
    step: Step,
    check: Callable[[], None],
    pose: Tensor | None = None,
) -> list[Tensor]:
    """The transformer's predictions for several branches in one pass through its weights.

    The branches go through each block one after the other, not as a batch: the result is that of
    separate passes, and weights that are streamed in are streamed once.

    Args:
        transformer: a diffusers `WanTransformer3DModel` or `WanAnimateTransformer3DModel`.
        latents: [1, 36, T, H/8, W/8]: noisy latents, mask, conditioning latents.
        timestep: [1] int64.
        branches: conditional first.
        rotary: tables for this shape, see `rotary_tables`.
        step: what the cache does.
        check: called before every block; raises to cancel.
        pose: from `embed_pose`, for all latent frames but the first.
    Returns:
        One [1, 16, T, H/8, W/8] per branch in the transformer's precision, equal to the module's
        own forward.
    """
    patches = transformer.patch_embedding(latents)
    if pose is not None:
        patches[:, :, 1:] += pose
    tokens = patches.flatten(2).transpose(1, 2).contiguous()
    time, modulation = embed_time(transformer, timestep, branches[0].context)
    if step.is_computed:
        hidden = _run_blocks(transformer, tokens, branches, modulation, rotary, check)
        if step.is_reused:
            for number, state in zip(step.numbers, hidden, strict=True):
                step.residuals.store(number, tokens, state)
    else:
        check()
        hidden = [step.residuals.apply(number, tokens) for number in step.numbers]
    return [project(transformer, state, time, latents.shape) for state in hidden]


def _run_blocks(
    transformer: nn.Module,
    tokens: Tensor,
    branches: Sequence[Branch],
    modulation: Tensor,
    rotary: Rotary,
    check: Callable[[], None],
) -> list[Tensor]:
    hidden = [tokens] * len(branches)
    for index, block in enumerate(transformer.blocks):
        check()
        hidden = [
            block(state, branch.context, modulation, rotary)
            for state, branch in zip(hidden, branches, strict=True)
        ]
        if branches[0].faces:
            hidden = [
                _adapt_to_face(transformer, index, state, branch.faces)
                for state, branch in zip(hidden, branches, strict=True)
            ]
    return hidden


def _adapt_to_face(
    transformer: nn.Module, block: int, hidden: Tensor, faces: Sequence[FaceKeys]
) -> Tensor:
    number, rest = divmod(block, transformer.config.inject_face_latents_blocks)
    if rest:
        return hidden
    return attend_to_face(transformer.face_adapter[number], hidden, faces[number]) + hidden


def project(transformer: nn.Module, hidden: Tensor, time: Tensor, shape: torch.Size) -> Tensor:
    """Tokens back to latents.

    Args:
        hidden: [1, tokens, dim] after the last block.
        time: [1, dim] time embedding.
        shape: of the transformer's input, for its frames, height and width.
    """
    shift, scale = (transformer.scale_shift_table.to(time.device) + time[:, None]).chunk(2, dim=1)
    normed = transformer.norm_out(hidden.float()) * (1 + scale) + shift
    tokens = transformer.proj_out(normed.type_as(hidden))
    depth, rows, columns = transformer.config.patch_size
    grid = (shape[2] // depth, shape[3] // rows, shape[4] // columns)
    tokens = tokens.view(1, *grid, depth, rows, columns, -1)
    # 1 t h w pt ph pw c -> 1 c (t pt) (h ph) (w pw)
    return tokens.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
