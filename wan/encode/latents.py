"""Video to latents, four frames and one tile at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..autoencoder import open_encoder
from ..errors import GeometryError
from ..geometry import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE
from ..latents import latent_statistics
from ..memory import vae_encode_bytes
from ..payloads import WanModel
from ..progress import Reporter, phase
from ..shortage import in_tiles
from ..tiling import Tile, blend_tiles, plan_tiles


@dataclass(frozen=True)
class Video:
    """Something for the VAE to encode."""

    chunks: Sequence[Tensor]
    """See `encode_chunks`."""
    content: bytes = b""
    """Equal for equal pixels, so that they need not be encoded again; empty: they are new."""


def encode_videos(
    model: WanModel, videos: Sequence[Video], reporter: Reporter, name: str, tile_size: int = 0
) -> list[Tensor]:
    """Encode videos of one size, but for those that this model encoded before.

    Args:
        model: gives the VAE.
        videos: one or more.
        reporter: told once per chunk and tile.
        name: of the phase.
        tile_size: side of the VAE's tiles in pixels, 0 (whole pictures), 128 or 256. Smaller ones
            are used where memory runs out.
    Returns:
        Latents of each, see `encode_chunks`.
    Raises:
        OutOfVramError: the smallest tiles do not fit either.
        GeometryError, InputError: as `encode_chunks`.
    """
    memo = model.vae.memo
    keys = [(video.content, tile_size) if video.content else None for video in videos]
    results = [memo.find(key) if key else None for key in keys]
    todo = [number for number, result in enumerate(results) if result is None]
    if not todo:
        return [result for result in results if result is not None]
    height, width = videos[0].chunks[0].shape[-2:]

    def needs(tile_size: int, is_frugal: bool = True) -> int:
        return vae_encode_bytes(width, height, tile_size, is_frugal=is_frugal)

    def encode(tile_size: int) -> list[Tensor]:
        tiles = len(plan_tiles(*_latent_size((height, width)), tile_size).tiles)
        total = tiles * sum(len(videos[number].chunks) for number in todo)
        is_frugal = not model.vae.estimate(needs(tile_size, is_frugal=False)).fits_whole
        with (
            phase(reporter, name, total) as advance,
            model.vae.on_device(needs(tile_size, is_frugal)) as vae,
        ):
            return [
                encode_chunks(vae, videos[number].chunks, reporter, tile_size, advance, is_frugal)
                for number in todo
            ]

    made = iter(in_tiles(encode, needs, model.vae, (width, height), tile_size, reporter))
    for number in todo:
        latents, key = next(made), keys[number]
        results[number] = memo.keep(key, latents) if key else latents
    return [result for result in results if result is not None]


def encode_chunks(
    vae: nn.Module,
    chunks: Sequence[Tensor],
    reporter: Reporter,
    tile_size: int = 0,
    advance: Callable[[], None] = lambda: None,
    is_frugal: bool = False,
) -> Tensor:
    """Encode consecutive chunks of one video through the causal VAE.

    A chunk of one frame is encoded like the first frame of a video: it does not look back, and
    the chunks after it look back to it. So 1, 4, ... 4 is an ordinary video, and a 1 at the end
    is an end image that knows nothing of the frames before.

    Args:
        vae: a diffusers `AutoencoderKLWan` on its device.
        chunks: each [1, 3, 1 or 4, H, W] in -1..1, the first of one frame; H and W are multiples
            of 8. They are asked for one by one, once per tile, so they may be made at that moment.
        reporter: asked between chunks whether to go on.
        tile_size: side of the tiles in pixels, 0 (whole pictures), 128 or 256.
        advance: called once per chunk and tile: `len(chunks)` times the tiles of `plan_tiles`.
        is_frugal: take less memory, see `open_encoder`.
    Returns:
        [1, 16, chunks, H/8, W/8] float32 on the CPU: the posterior mean, normalised.
    Raises:
        GeometryError: chunks that the VAE cannot take or that do not fit each other.
        InputError: another tile size.
    Source: Wan2.1 wan/modules/vae.py; untiled equal to `AutoencoderKLWan.encode` of the video.
    """
    if not chunks:
        raise _wrong_length(0, 0)
    size = tuple(chunks[0].shape[-2:])
    plan = plan_tiles(*_latent_size(size), tile_size)
    weight = next(vae.parameters())

    walk = open_encoder(vae, is_frugal)

    def encode_tile(tile: Tile) -> Iterator[Tensor]:
        rows, columns = tile.area(SPATIAL_STRIDE)
        for number in range(len(chunks)):
            chunk = _checked(chunks[number], number, size)
            if chunk.shape[2] == 1:
                walk.restart()
            pixels = chunk[..., rows, columns].to(weight.device, weight.dtype)
            latents = walk(pixels).chunk(2, dim=1)[0]
            advance()
            yield latents

    result = torch.empty(1, LATENT_CHANNELS, len(chunks), plan.height, plan.width)
    for frames, rows, columns, latents in blend_tiles(
        plan, 1, encode_tile, reporter.check_cancelled
    ):
        result[:, :, frames, rows, columns] = latents
    mean, std = latent_statistics(vae)
    return result.sub_(mean).div_(std)


def _checked(chunk: Tensor, number: int, size: tuple[int, ...]) -> Tensor:
    length = chunk.shape[2]
    if length not in ((1, TEMPORAL_STRIDE) if number else (1,)):
        raise _wrong_length(number, length)
    found = tuple(chunk.shape[-2:])
    if found != size:
        raise _wrong_size(f"{found[1]}x{found[0]} after {size[1]}x{size[0]}")
    return chunk


def _latent_size(size: tuple[int, ...]) -> tuple[int, int]:
    height, width = size
    if height % SPATIAL_STRIDE or width % SPATIAL_STRIDE:
        raise _wrong_size(f"{width}x{height}")
    return height // SPATIAL_STRIDE, width // SPATIAL_STRIDE


def _wrong_length(number: int, length: int) -> GeometryError:
    return GeometryError(
        what=f"Of the chunks of the video, number {number} has {length} frames.",
        why="The VAE encodes one frame and after it four at a time.",
        fix="Use chunks of 1, 4, 4, ... frames.",
    )


def _wrong_size(found: str) -> GeometryError:
    return GeometryError(
        what=f"The frames to encode are {found}.",
        why=f"They must all have the same size, a multiple of {SPATIAL_STRIDE} pixels.",
        fix="Resize all of them to the size of the video.",
    )
