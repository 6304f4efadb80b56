"""Latents to frames, one latent frame and one tile at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..autoencoder import open_decoder
from ..errors import GeometryError
from ..geometry import SPATIAL_STRIDE, TEMPORAL_STRIDE, latent_frames
from ..latents import latent_statistics
from ..media.frames import empty_frames, fill_image
from ..memory import vae_decode_bytes
from ..payloads import VideoLatents, WanModel
from ..progress import Reporter, phase
from ..shortage import in_tiles, is_out_of_memory
from ..tiling import Tile, TilePlan, blend_tiles, plan_tiles


def decode_frames(
    model: WanModel,
    video: VideoLatents,
    reporter: Reporter,
    tile_size: int = 0,
    signed: bool = False,
) -> Iterator[tuple[int, Tensor]]:
    """Decode latents in order.

    Without tiles each part is decoded when it is asked for. With tiles the whole video is decoded
    and held first, because a frame is finished only with its last tile.

    Args:
        model: gives the VAE.
        video: latents of 4n+1 frames; latent frames beyond those are not decoded.
        reporter: told once per latent frame and tile.
        tile_size: side of the tiles in pixels, 0 (whole pictures), 128 or 256.
        signed: frames in -1..1 as the model knows them, so that they can be encoded again without
            having been rounded.
    Yields:
        (index of the first frame, frames [1 or 4, H, W, 3] float32 in 0..1 on the CPU).
    Raises:
        GeometryError: too few latent frames, or not 4n+1 frames.
        InputError: another tile size.
    Source: Wan2.1 wan/modules/vae.py; untiled equal to `AutoencoderKLWan.decode` of the video.
    """
    plan = _plan(video, tile_size)
    done = 0
    if len(plan.tiles) == 1 and _fits(model, video, tile_size):
        try:
            for frames, _, _, pixels in _decode(model, video, plan, tile_size, reporter):
                _, colours, length, height, width = pixels.shape
                image = empty_frames(length, height, width, colours)
                done = frames.stop
                yield frames.start, fill_image(pixels[0], image, signed)
            return
        except Exception as error:
            if not is_out_of_memory(error):
                raise
    # In tiles from the beginning, or because whole pictures take, or would take, too much memory.
    result = decode_video(model, video, reporter, tile_size, signed)
    for first in (0, *range(1, video.num_frames, TEMPORAL_STRIDE)):
        if first >= done:
            yield first, result[first : first + TEMPORAL_STRIDE if first else 1]


def decode_video(
    model: WanModel,
    video: VideoLatents,
    reporter: Reporter,
    tile_size: int = 0,
    signed: bool = False,
) -> Tensor:
    """All frames of a video, [T, H, W, 3] float32 in 0..1 on the CPU; memory is taken once.

    Args, Raises: as `decode_frames`.
    """
    height, width = (side * SPATIAL_STRIDE for side in video.latents.shape[3:])
    result = empty_frames(video.num_frames, height, width)

    def decode(tile_size: int) -> None:
        plan = _plan(video, tile_size)
        for frames, rows, columns, pixels in _decode(model, video, plan, tile_size, reporter):
            fill_image(pixels[0], result[frames, rows, columns], signed)

    def needs(tile_size: int) -> int:
        return _needs(model, video, tile_size, is_frugal=True)

    in_tiles(decode, needs, model.vae, (width, height), tile_size, reporter)
    return result


def decode_dtype(model: WanModel, vae: nn.Module) -> torch.dtype:
    """What the decoder computes in.

    On a GPU what the model was loaded for, which may be half precision: pictures of the trained
    miniature then differ from those in float32 by 58 dB PSNR and more (tests/autoencoder). CPUs
    often have no quick half precision.
    """
    weight = next(vae.parameters())
    return weight.dtype if weight.device.type == "cpu" else model.decode_dtype


def _needs(model: WanModel, video: VideoLatents, tile_size: int, is_frugal: bool) -> int:
    height, width = (side * SPATIAL_STRIDE for side in video.latents.shape[3:])
    itemsize = model.decode_dtype.itemsize
    return vae_decode_bytes(width, height, tile_size, video.num_frames, itemsize, is_frugal)


def _fits(model: WanModel, video: VideoLatents, tile_size: int, is_frugal: bool = True) -> bool:
    """Whether there is memory for it, as far as that is known."""
    return model.vae.estimate(_needs(model, video, tile_size, is_frugal)).fits_whole


def _plan(video: VideoLatents, tile_size: int) -> TilePlan:
    needed, found = latent_frames(video.num_frames), video.latents.shape[2]
    if found < needed:
        raise GeometryError(
            what=f"There are {found} latent frames for a video of {video.num_frames} frames.",
            why=f"It takes {needed}: one for the first frame and one for every four after it.",
            fix=f"Decode {(found - 1) * TEMPORAL_STRIDE + 1} frames, or sample the whole video.",
        )
    height, width = video.latents.shape[3:]
    return plan_tiles(height, width, tile_size)


def _decode(
    model: WanModel, video: VideoLatents, plan: TilePlan, tile_size: int, reporter: Reporter
) -> Iterator[tuple[slice, slice, slice, Tensor]]:
    """Pieces of the video in about -1..1, [1, 3, t, h, w], and where they belong (in pixels)."""
    # An end image of plain I2V weights is sampled as one more latent frame, whose decoded frame
    # is no part of the video. Nothing looks ahead to it, so it need not be decoded.
    count = latent_frames(video.num_frames)
    is_frugal = not _fits(model, video, tile_size, is_frugal=False)
    needed = _needs(model, video, tile_size, is_frugal)
    with (
        phase(reporter, "decode", len(plan.tiles) * count) as advance,
        model.vae.on_device(needed) as vae,
    ):
        device = next(vae.parameters()).device
        mean, std = latent_statistics(vae)
        latents = (video.latents[:, :, :count] * std + mean).to(device)
        walk = open_decoder(vae, decode_dtype(model, vae), is_frugal)

        def decode_tile(tile: Tile) -> Iterator[Tensor]:
            walk.restart()
            rows, columns = tile.area(1)
            for index in range(count):
                pixels = walk(latents[:, :, index : index + 1, rows, columns])
                advance()
                yield pixels

        yield from blend_tiles(plan, SPATIAL_STRIDE, decode_tile, reporter.check_cancelled)
