"""Estimates of the memory a stage needs beside its weights, so that a host can make room."""

from __future__ import annotations

from .geometry import LatentShape

FLOAT32_BYTES = 4


# Values per pixel that live at once in the VAE: those that are counted (bench/live.py) at its true
# width and 832x480 are 3307 and 2215 for encoding, 4335 and 3291 for decoding. Half as much again is
# left to the libraries' kernels, as ComfyUI does (6000 and 7000, where 3520 and 4865 are counted).
_ENCODE_VALUES, _FRUGAL_ENCODE_VALUES = 5000, 3400
_DECODE_VALUES, _FRUGAL_DECODE_VALUES = 6500, 5000


def vae_encode_bytes(
    width: int,
    height: int,
    tile_size: int = 0,
    dtype_bytes: int = FLOAT32_BYTES,
    is_frugal: bool = False,
) -> int:
    """Peak activations while encoding four frames.

    Args:
        width, height: of the video, pixels.
        tile_size: side of the VAE's tiles, pixels; 0 = whole pictures.
        dtype_bytes: of what is computed in.
        is_frugal: whether frames are computed one by one, see `wan.autoencoder`.
    """
    values = _FRUGAL_ENCODE_VALUES if is_frugal else _ENCODE_VALUES
    return values * _pixels_at_once(width, height, tile_size) * dtype_bytes


def vae_decode_bytes(
    width: int,
    height: int,
    tile_size: int = 0,
    frames: int = 1,
    dtype_bytes: int = FLOAT32_BYTES,
    is_frugal: bool = False,
) -> int:
    """Peak activations while decoding one latent frame, and the edges kept between tiles.

    Args:
        width, height: of the video, pixels.
        tile_size: side of the VAE's tiles, pixels; 0 = whole pictures.
        frames: of the video; tiles are decoded for its whole length, so their edges grow with it.
        dtype_bytes: of what is computed in.
        is_frugal: whether frames are computed one by one, see `wan.autoencoder`.
    """
    values = _FRUGAL_DECODE_VALUES if is_frugal else _DECODE_VALUES
    needed = values * _pixels_at_once(width, height, tile_size) * dtype_bytes
    if tile_size and max(width, height) > tile_size:
        overlap = tile_size // 4
        # Lower edges of one row of tiles, which overlap by a third of their stride, and right
        # edges of one tile.
        edge_pixels = overlap * (width * 4 // 3 + tile_size)
        needed += 3 * frames * edge_pixels * FLOAT32_BYTES
    return needed


def transformer_bytes(shape: LatentShape, dim: int, ffn_dim: int, dtype_bytes: int) -> int:
    """Peak activations of one transformer forward.

    Counted: the residual stream and its normalised copy in float32, query, key, value and
    attention output, and the widened feed-forward activations.
    """
    per_token = 2 * dim * FLOAT32_BYTES + 4 * dim * dtype_bytes + 2 * ffn_dim * dtype_bytes
    return shape.tokens * per_token


def _pixels_at_once(width: int, height: int, tile_size: int) -> int:
    return min(width, tile_size or width) * min(height, tile_size or height)
