"""How an Animate transformer sees the face: read once for a clip, looked at in every step.

Motion features, face tokens and their keys and values do not depend on the noise, so nothing of
them is computed again from step to step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..parallel import Split
from .attention import Attend, scaled_dot_product

_BATCH = 8
"""Face pictures that go through the motion encoder at a time."""  # Wan2.2 model_animate.py
UNSEEN = -1.0
"""The face of the unconditional branch: black in -1..1. Wan2.2 wan/animate.py."""


@dataclass(frozen=True)
class FaceKeys:
    """What one face adapter looks at, ready for attention."""

    keys: Tensor
    """[T, tokens, heads, head_dim]: latent frames are a batch, each sees its own face only."""
    values: Tensor
    """Likewise."""


def encode_motion(transformer: nn.Module, faces: Tensor, check: Callable[[], None]) -> Tensor:
    """Expression and head pose in each face picture.

    Args:
        transformer: a diffusers `WanAnimateTransformer3DModel`.
        faces: [frames, 3, size, size] in -1..1, of the size of its motion encoder.
        check: called before every batch; raises to cancel.
    Returns:
        [frames, motion_encoder_dim] in the transformer's precision.
    """
    weight = transformer.patch_embedding.weight
    motions = []
    for batch in faces.split(_BATCH):
        check()
        motions.append(transformer.motion_encoder(batch.to(weight.device, weight.dtype)))
    return torch.cat(motions)


def encode_no_motion(transformer: nn.Module, frames: int) -> Tensor:
    """The motion of a face that is not there, in every frame.

    Returns:
        [frames, motion_encoder_dim], as `encode_motion` of black pictures.
    """
    size = transformer.config.motion_encoder_size
    black = torch.full((1, 3, size, size), UNSEEN)
    return encode_motion(transformer, black, lambda: None).expand(frames, -1)


def embed_face(transformer: nn.Module, motion: Tensor) -> tuple[FaceKeys, ...]:
    """What every face adapter looks at.

    Args:
        motion: [4n+1, motion_encoder_dim], from `encode_motion`.
    Returns:
        One entry per adapter, each of n+2 latent frames: zeros for the reference picture's, then
        those of the clip.
    """
    tokens = transformer.face_encoder(motion[None])
    tokens = torch.cat([torch.zeros_like(tokens[:, :1]), tokens], dim=1)
    return tuple(_keys(adapter, tokens) for adapter in transformer.face_adapter)


def _keys(adapter: nn.Module, tokens: Tensor) -> FaceKeys:
    normed = adapter.pre_norm_kv(tokens)[0]  # 1 T n dim -> T n dim
    heads = (adapter.heads, -1)
    keys = adapter.norm_k(adapter.to_k(normed).unflatten(-1, heads))
    return FaceKeys(keys, adapter.to_v(normed).unflatten(-1, heads))


def attend_to_face(
    adapter: nn.Module,
    hidden: Tensor,
    face: FaceKeys,
    attend: Attend = scaled_dot_product,
    split: Split | None = None,
) -> Tensor:
    """What an adapter adds to the tokens.

    Args:
        adapter: one of `transformer.face_adapter`.
        hidden: [1, tokens, dim], latent frames one after the other.
        face: what it looks at.
        attend: computes attention.
        split: which tokens those of `hidden` are; None: all.
    Returns:
        [1, tokens, dim], equal to the adapter's own forward.
    """
    queries = adapter.to_q(adapter.pre_norm_q(hidden)).unflatten(-1, (adapter.heads, -1))
    queries, keys, values, before = adapter.norm_q(queries)[0], face.keys, face.values, 0
    if split is not None:
        frames, (before, after) = split.frames(len(keys))
        keys, values = keys[frames], values[frames]
        # Each frame is looked at by all of its tokens: zeros stand for those of other ranks.
        queries = functional.pad(queries, (0, 0, 0, 0, before, after))
    # (T s) heads d -> T s heads d
    seen = attend(queries.unflatten(0, (len(keys), -1)), keys, values, None)
    seen = seen.flatten(2, 3).type_as(queries).flatten(0, 1)
    return adapter.to_out(seen[None, before : before + hidden.shape[1]])
