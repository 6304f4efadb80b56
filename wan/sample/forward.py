"""One pass through a Wan transformer, opened up where caches, progress and cancel need in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Branch:
    """What one prediction is conditioned on, in the transformer's precision, on its device."""

    text: Tensor
    """[1, 512, text_dim]."""
    images: Tensor
    """[images, tokens, image_dim]."""


def predict_velocity(
    transformer: nn.Module,
    latents: Tensor,
    timestep: Tensor,
    branch: Branch,
    check: Callable[[], None],
) -> Tensor:
    """The transformer's prediction, equal to the module's own forward.

    Args:
        transformer: a diffusers `WanTransformer3DModel`.
        latents: [1, 36, T, H/8, W/8]: noisy latents, mask, conditioning latents.
        timestep: [1] int64.
        branch: text and images.
        check: called before every block; raises to cancel.
    Returns:
        [1, 16, T, H/8, W/8] in the transformer's precision.
    """
    rotary = transformer.rope(latents)
    hidden = transformer.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    time, modulation, text, images = transformer.condition_embedder(
        timestep, branch.text, branch.images
    )
    # Image tokens first: the blocks split the two at 512 from the end.
    context = torch.cat([images, text], dim=1)
    modulation = modulation.unflatten(1, (6, -1))
    for block in transformer.blocks:
        check()
        hidden = block(hidden, context, modulation, rotary)
    return project(transformer, hidden, time, latents.shape)


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
