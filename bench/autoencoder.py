"""A6: the VAE's own forward beside the stock modules, on the same weights."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.live import peak_of
from bench.measure import Figure, Row
from wan.autoencoder import open_decoder
from wan.encode.latents import encode_chunks
from wan.progress import Silent

MINI = Path(__file__).resolve().parents[1] / "assets" / "wan-mini" / "i2v" / "vae"
GOAL_TIME, GOAL_PEAK, GOAL_TILES, GOAL_PSNR = 0.4, 0.6, 1.3, 45
"""performance.md G6. The goal in time is one of GPUs, in half precision; CPUs compute in float32."""


def rows(folder: Path) -> Iterator[Row | Figure]:
    """Times of small VAEs and of the true width, and what is counted at the true size."""
    for name, size, frames, config in (
        ("4 channels, 128x128", 128, 17, {"base_dim": 4}),
        ("16 channels, 64x64", 64, 9, {"base_dim": 16, "dim_mult": [1, 2, 3, 3]}),
        ("96 channels (true), 64x64", 64, 5, {}),
    ):
        vae = make_vae(**config)
        latents = torch.randn(1, 16, (frames + 3) // 4, size // 8, size // 8)
        video = torch.rand(1, 3, frames, size, size) * 2 - 1
        for told, work in (("decode", decode), ("encode", encode)):
            given = latents if work is decode else video
            ours, peer = partial(work, vae, given), partial(stock, work, vae, given)
            yield Row(f"{told}, {name}", ours, peer, "diffusers", frames, id="A6")
    yield tiled_row()
    yield from counted()
    if MINI.is_dir():
        yield from half_precision()


def make_vae(**config: object) -> nn.Module:
    """Random weights."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    return AutoencoderKLWan(**config).eval().requires_grad_(False)


@torch.inference_mode()
def decode(vae: nn.Module, latents: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Chunk by chunk, into memory taken once."""
    walk, count, (height, width) = open_decoder(vae, dtype), latents.shape[2], latents.shape[3:]
    result = torch.empty(1, 3, 4 * count - 3, height * 8, width * 8)
    for number, chunk in enumerate(latents.split(1, dim=2)):
        first = 4 * number - 3 if number else 0
        result[:, :, first : 4 * number + 1] = walk(chunk)
    return result.clamp_(-1, 1)


@torch.inference_mode()
def encode(vae: nn.Module, video: Tensor, tile_size: int = 0) -> Tensor:
    """As the rooms do it."""
    chunks = [video[:, :, :1], *video[:, :, 1:].split(4, dim=2)]
    return encode_chunks(vae, chunks, Silent(), tile_size)


@torch.inference_mode()
def stock(work: Callable[..., Tensor], vae: nn.Module, given: Tensor) -> Tensor:
    """What diffusers' own class makes of it."""
    if work is decode:
        return vae.decode(given).sample
    return vae.encode(given).latent_dist.mode()


def tiled_row() -> Row:
    """What overlapping tiles cost."""
    vae, video = make_vae(base_dim=4), torch.rand(1, 3, 5, 256, 320) * 2 - 1
    tiled, whole = partial(encode, vae, video, 256), partial(encode, vae, video)
    return Row(
        "encode in tiles of 256, 320x256", tiled, whole, "ours, whole", 5, GOAL_TILES, id="A6"
    )


@contextmanager
def stock_modules() -> Iterator[None]:
    """Let the stock modules compute."""
    before = os.environ.get("WAN_LOCAL_FORWARD")
    os.environ["WAN_LOCAL_FORWARD"] = "diffusers"
    try:
        yield
    finally:
        del os.environ["WAN_LOCAL_FORWARD"]
        if before is not None:
            os.environ["WAN_LOCAL_FORWARD"] = before


def counted() -> Iterator[Figure]:
    """Bytes that live at once while 832x480 is decoded at the true size: no memory is taken."""
    with torch.device("meta"):
        vae = make_vae()
        latents = torch.empty(1, 16, 1, 60, 104)

    def work(dtype: torch.dtype | None, is_frugal: bool) -> None:
        walk = open_decoder(vae, dtype, is_frugal)
        for _ in range(3):
            walk(latents)

    with stock_modules():
        peer = peak_of(partial(work, None, False)) / 1e9
    for name, dtype, is_frugal in (
        ("float32", None, False),
        ("bfloat16", torch.bfloat16, False),
        ("bfloat16, frames one by one", torch.bfloat16, True),
    ):
        ours = peak_of(partial(work, dtype, is_frugal)) / 1e9
        goal = GOAL_PEAK * peer if dtype else None
        told = "diffusers, float32"
        yield Figure("A6", f"decode 832x480, live at once, {name}", ours, "GB", goal, told, peer)


def half_precision() -> Iterator[Figure]:
    """How near half precision comes to float32, on the trained miniature."""
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(MINI).eval().requires_grad_(False)
    latents = torch.randn(1, 16, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2
    full = decode(vae, latents)
    for dtype in (torch.bfloat16, torch.float16):
        error = ((decode(vae, latents, dtype) - full) / 2).square().mean()
        decibels = float(10 * torch.log10(1 / error))
        name = f"PSNR of {dtype} (goal: {GOAL_PSNR} at least)".replace("torch.", "")
        yield Figure("A6", name, decibels, "dB")
