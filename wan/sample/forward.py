"""One pass through a Wan transformer, opened up where caches, progress and cancel need in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..errors import GeometryError
from ..geometry import TEXT_TOKENS
from ..kernels import Product, as_loaded, gated_add, normalise
from ..parallel import Split
from ..parallel.attention import across
from ..switch import uses_own_forward
from .attention import Attend, scaled_dot_product
from .block import run_block
from .cache import ResidualCache
from .cross import Branch, KeyMemory
from .face import attend_to_face
from .rope import Rotary
from .stock import attention_across


@dataclass(frozen=True)
class Network:
    """A transformer with all that its passes of a run share."""

    transformer: nn.Module
    """A diffusers `WanTransformer3DModel` or `WanAnimateTransformer3DModel`."""
    rotary: Rotary
    """Positions, for the shape of the latents."""
    attend: Attend = scaled_dot_product
    """Computes attention."""
    product: Product = as_loaded
    """Multiplies with the blocks' linear layers."""
    pose: Tensor | None = None
    """From `embed_pose`, for all latent frames but the first."""
    keys: KeyMemory = field(default_factory=KeyMemory)
    """Of the cross-attention."""
    split: Split | None = None
    """Which tokens are this process's, where several compute; `rotary` is then of these alone."""


@dataclass(frozen=True)
class Moment:
    """What the blocks are told of a time step."""

    time: Tensor
    """[1, dim], the time embedding."""
    modulation: Tensor
    """[1, 6, dim]."""


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


def embed_time(transformer: nn.Module, timestep: Tensor, like: Tensor) -> Moment:
    """The time embedding and the modulation of the blocks.

    Args:
        timestep: [1] int64.
        like: a tensor of the precision that is wanted, where it is wanted.
    """
    embedder = transformer.condition_embedder
    weight = next(embedder.time_embedder.parameters())
    waves = embedder.timesteps_proj(timestep.to(like.device)).to(weight.dtype)
    time = embedder.time_embedder(waves).type_as(like)
    return Moment(time, embedder.time_proj(embedder.act_fn(time)).unflatten(1, (6, -1)))


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
    network: Network,
    latents: Tensor,
    moment: Moment,
    branches: Sequence[Branch],
    step: Step,
    check: Callable[[], None],
) -> list[Tensor]:
    """The transformer's predictions for several branches in one pass through its weights.

    The branches go through each block one after the other, not as a batch: the result is that of
    separate passes, and weights that are streamed in are streamed once.

    Args:
        network: the transformer.
        latents: [1, 36, T, H/8, W/8]: noisy latents, mask, conditioning latents.
        moment: from `embed_time`.
        branches: conditional first.
        step: what the cache does.
        check: called before every block; raises to cancel.
    Returns:
        One [1, 16, T, H/8, W/8] per branch in the transformer's precision, equal to the module's
        own forward: bit for bit with WAN_LOCAL_FORWARD=diffusers, else within rounding.
    """
    transformer = network.transformer
    patches = transformer.patch_embedding(latents)
    if network.pose is not None:
        patches[:, :, 1:] += network.pose
    tokens = patches.flatten(2).transpose(1, 2)
    if network.split is not None:
        tokens = network.split.own(tokens)
    tokens = tokens.contiguous()
    if step.is_computed:
        given = (network, tokens, moment.modulation, branches, step.numbers, check)
        if uses_own_forward():
            hidden = _run_own_blocks(*given)
        else:
            with attention_across(transformer, network.split):
                hidden = _run_stock_blocks(*given)
        if step.is_reused:
            for number, state in zip(step.numbers, hidden, strict=True):
                step.residuals.store(number, tokens, state)
    else:
        check()
        hidden = [step.residuals.apply(number, tokens) for number in step.numbers]
    return [
        project(transformer, state, moment.time, latents.shape, network.split) for state in hidden
    ]


def _run_own_blocks(
    network: Network,
    tokens: Tensor,
    modulation: Tensor,
    branches: Sequence[Branch],
    numbers: Sequence[int],
    check: Callable[[], None],
) -> list[Tensor]:
    hidden = [tokens.clone() for _ in branches]  # the blocks work in place
    transformer, attend = network.transformer, network.attend
    itself = network.split and across(network.split, attend, transformer.blocks[0].attn1.heads)
    for index, block in enumerate(transformer.blocks):
        check()
        keys = [
            network.keys.of(transformer, number, index, block.attn2, branch)
            for number, branch in zip(numbers, branches, strict=True)
        ]
        run_block(block, hidden, keys, modulation, network.rotary, attend, network.product, itself)
        for state, branch in zip(hidden, branches, strict=True):
            change = _seen_in_face(network, index, state, branch)
            if change is not None:
                gated_add(state, change, None)
    return hidden


def _run_stock_blocks(
    network: Network,
    tokens: Tensor,
    modulation: Tensor,
    branches: Sequence[Branch],
    numbers: Sequence[int],
    check: Callable[[], None],
) -> list[Tensor]:
    hidden, transformer = [tokens] * len(branches), network.transformer
    for index, block in enumerate(transformer.blocks):
        check()
        hidden = [
            block(state, branch.context, modulation, network.rotary.tables)
            for state, branch in zip(hidden, branches, strict=True)
        ]
        changes = [
            _seen_in_face(network, index, state, branch)
            for state, branch in zip(hidden, branches, strict=True)
        ]
        hidden = [
            state if change is None else change + state
            for state, change in zip(hidden, changes, strict=True)
        ]
    return hidden


def _seen_in_face(network: Network, block: int, state: Tensor, branch: Branch) -> Tensor | None:
    """What the face adapter behind a block adds; None where there is none."""
    if not branch.faces:
        return None
    number, rest = divmod(block, network.transformer.config.inject_face_latents_blocks)
    if rest:
        return None
    adapter = network.transformer.face_adapter[number]
    return attend_to_face(adapter, state, branch.faces[number], network.attend, network.split)


def project(
    transformer: nn.Module,
    hidden: Tensor,
    time: Tensor,
    shape: torch.Size,
    split: Split | None = None,
) -> Tensor:
    """Tokens back to latents.

    Args:
        hidden: [1, tokens, dim] after the last block.
        time: [1, dim] time embedding.
        shape: of the transformer's input, for its frames, height and width.
        split: which tokens those of `hidden` are; None: all.
    """
    shift, scale = (transformer.scale_shift_table.to(time.device) + time[:, None]).float()[0]
    if uses_own_forward():
        normed = normalise(hidden, scale + 1, shift, transformer.norm_out.eps)
    else:
        normed = transformer.norm_out(hidden.float()) * (1 + scale) + shift
    tokens = transformer.proj_out(normed.type_as(hidden))
    if split is not None:  # 64 numbers a token here, where a real model's tokens have 5120
        tokens = split.gather(tokens)
    depth, rows, columns = transformer.config.patch_size
    grid = (shape[2] // depth, shape[3] // rows, shape[4] // columns)
    tokens = tokens.view(1, *grid, depth, rows, columns, -1)
    # 1 t h w pt ph pw c -> 1 c (t pt) (h ph) (w pw)
    return tokens.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
