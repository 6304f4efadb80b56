"""What decides the result of a run, as one short text: equal runs can continue each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from ..media.sequence import Frames, pixels
from ..payloads import AnimateCondition, TextEmbeds, WanModel

_LENGTH = 32  # hexadecimal digits of 128 bits


def run_key(
    model: WanModel,
    text: TextEmbeds,
    condition: AnimateCondition,
    previous: Tensor | None,
    settings: Any,
) -> str:
    """A text that is the same for runs with the same result, whatever seed was drawn.

    Looks at every frame once. Of the weights, name, kind, LoRAs and the files' identity count.

    Args:
        settings: any record with a faithful `repr`.
    """
    digest = hashlib.blake2b(digest_size=_LENGTH // 2)
    patches = [repr((p.identity, p.strength)) for p in model.transformer.patches]
    digest.update(repr((model.name, model.variant, model.identity, patches, settings)).encode())
    digest.update(repr(condition.relighting).encode())
    for tensor in (text.positive, text.negative, condition.image_embeds, condition.reference):
        _add_tensor(digest, tensor)
    _add_tensor(digest, previous)
    scene = condition.scene
    videos: Iterable[Frames] = (condition.poses, condition.faces)
    for video in (*videos, *([scene.background] if scene else [])):
        for number in range(len(video)):
            digest.update(np.ascontiguousarray(pixels(video, number)))
    for mask in scene.mask if scene else ():
        _add_tensor(digest, mask)
    return digest.hexdigest()


def _add_tensor(digest: Any, tensor: Tensor | None) -> None:
    if tensor is None:
        digest.update(b"none")
        return
    digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
    digest.update(tensor.contiguous().numpy())
