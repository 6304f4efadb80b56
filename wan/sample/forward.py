"""One pass through a Wan transformer, opened up where caches, progress and cancel need in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .cache import ResidualCache

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Branch:
    """What one prediction is conditioned on, in the transformer's precision, on its device."""

    text: Tensor
    """[1, 512, text_dim]."""
    images: Tensor
    """[images, tokens, image_dim]."""


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


def predict_velocities(
    transformer: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    branches: Sequence[Branch],
    rotary: Rotary,
    step: Step,
    check: Callable[[], None],
) -> list[Tensor]:
    """The transformer's predictions for several branches in one pass through its weights.

    The branches go through each block one after the other, not as a batch: the result is that of
    separate passes, and weights that are streamed in are streamed once.

    Args:
        transformer: a diffusers `WanTransformer3DModel`.
        latents: [1, 36, T, H/8, W/8]: noisy latents, mask, conditioning latents.
        timestep: [1] int64.
        branches: text and images; conditional first.
        rotary: tables for this shape, see `rotary_tables`.
        step: what the cache does.
        check: called before every block; raises to cancel.
    Returns:
        One [1, 16, T, H/8, W/8] per branch in the transformer's precision, equal to the module's
        own forward.
    """
    tokens = transformer.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    embedded = [
        transformer.condition_embedder(timestep, branch.text, branch.images) for branch in branches
    ]
    time, modulation = embedded[0][0], embedded[0][1].unflatten(1, (6, -1))
    if step.is_computed:
        # Image tokens first: the blocks split the two at 512 from the end.
        contexts = [torch.cat([images, text], dim=1) for _, _, text, images in embedded]
        hidden = [tokens] * len(branches)
        for block in transformer.blocks:
            check()
            hidden = [
                block(state, context, modulation, rotary)
                for state, context in zip(hidden, contexts, strict=True)
            ]
        if step.is_reused:
            for number, state in zip(step.numbers, hidden, strict=True):
                step.residuals.store(number, tokens, state)
    else:
        check()
        hidden = [step.residuals.apply(number, tokens) for number in step.numbers]
    return [project(transformer, state, time, latents.shape) for state in hidden]


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
