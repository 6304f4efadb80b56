"""Encoded clips, kept between runs for as long as their autoencoder stays the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

_Clips = TypeVar("_Clips")


def kept(
    store: Path | None,
    name: str,
    vae: nn.Module,
    kind: Callable[..., _Clips],
    encode: Callable[[], _Clips],
) -> _Clips:
    """Encoded clips from a file, or encoded now and written to it.

    Args:
        store: a folder; None: nothing is kept.
        name: what was encoded.
        vae: what it is encoded with; latents of another autoencoder are not taken.
        kind: a dataclass of tensors, to make it from the file.
        encode: makes it.
    """
    path = store / f"{name}-{_fingerprint(vae)}.pt" if store else None
    if path and path.is_file():
        return kind(**torch.load(path, weights_only=True))
    clips = encode()
    if path:
        torch.save(vars(clips), path)
    return clips


def _fingerprint(vae: nn.Module) -> str:
    """Eight characters that differ when a weight does that latents depend on."""
    digest = hashlib.sha256()
    for weight in (*vae.encoder.parameters(), *vae.quant_conv.parameters()):
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]
