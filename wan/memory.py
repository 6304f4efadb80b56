"""Estimates of the memory a stage needs beside its weights, so that a host can make room."""

from __future__ import annotations

from .geometry import SPATIAL_STRIDE, LatentShape

FLOAT32_BYTES = 4


def vae_encode_bytes(width: int, height: int, dtype_bytes: int = FLOAT32_BYTES) -> int:
    """Peak activations while encoding four frames of `width` x `height` pixels.

    About 6000 values per pixel, the figure ComfyUI reserves for this VAE.
    """
    return 6000 * width * height * dtype_bytes


def vae_decode_bytes(width: int, height: int, dtype_bytes: int = FLOAT32_BYTES) -> int:
    """Peak activations while decoding one latent frame to `width` x `height` pixels."""
    return 7000 * width * height * dtype_bytes * 64 // SPATIAL_STRIDE**2


def transformer_bytes(shape: LatentShape, dim: int, ffn_dim: int, dtype_bytes: int) -> int:
    """Peak activations of one transformer forward.

    Counted: the residual stream and its normalised copy in float32, query, key, value and
    attention output, and the widened feed-forward activations.
    """
    per_token = 2 * dim * FLOAT32_BYTES + 4 * dim * dtype_bytes + 2 * ffn_dim * dtype_bytes
    return shape.tokens * per_token
