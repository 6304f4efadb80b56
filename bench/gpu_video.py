"""B6, B9: the VAE and what comes after it."""

from functools import partial

import torch
from torch import Tensor, nn

from bench.autoencoder import stock_modules
from bench.gpu import LARGE_LATENTS, LATENTS, SMALL_LATENTS, Bench
from wan.autoencoder import arithmetic, open_decoder, open_encoder
from wan.tiling import blend_tiles, plan_tiles

GOAL_TIME, GOAL_PEAK, GOAL_TILES = 0.4, 0.6, 1.3


def autoencoder(bench: Bench) -> dict[str, object]:
    """B6: decoding and encoding, ours and diffusers', by precision and size of the tiles."""
    from diffusers import AutoencoderKLWan

    with torch.device(bench.device):
        vae = AutoencoderKLWan(**({"base_dim": 8} if bench.is_small else {}))
    vae = vae.eval().requires_grad_(False)
    found = dict[str, object]()
    sizes = {"480p": LATENTS, "720p": LARGE_LATENTS}
    for name, latents in ({"small": SMALL_LATENTS} if bench.is_small else sizes).items():
        found |= {f"{name} {key}": value for key, value in decoding(bench, vae, latents).items()}
        found |= {f"{name} {key}": value for key, value in encoding(bench, vae, latents).items()}
    return found


def decoding(bench: Bench, vae: nn.Module, shape: tuple[int, int, int]) -> dict[str, object]:
    """Ours against the stock modules in float32, which use TF32 where PyTorch does."""
    latents, found = torch.randn(1, 16, *shape, device=bench.device), dict[str, object]()
    with stock_modules():
        work = partial(decode, vae, latents, None)
        stock, peak, exact = bench.seconds(work, 1), bench.peak(work), work()
    found |= {"decode, diffusers float32: s": stock, "decode, diffusers: peak GB": peak / 1e9}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        name = f"decode, {dtype}".replace("torch.", "")
        work = partial(decode, vae, latents, dtype)
        seconds, most = bench.seconds(work, 1), bench.peak(work)
        found[f"{name}: of diffusers (goal {GOAL_TIME})"] = seconds / stock
        found[f"{name}: peak GB (goal {GOAL_PEAK * peak / 1e9:.3g})"] = most / 1e9
        error = (work() - exact).div_(2).square_().mean()
        found[f"{name}: PSNR"] = float(-10 * torch.log10(error.clamp_min(1e-20)))
    half = bench.seconds(partial(decode, vae, latents, torch.bfloat16), 1)
    one_by_one = bench.seconds(partial(decode, vae, latents, torch.bfloat16, is_frugal=True), 1)
    found["decode, frames one by one: of together"] = one_by_one / half
    for tile in (256, 128):
        tiled = bench.seconds(partial(decode, vae, latents, torch.bfloat16, tile), 1)
        found[f"decode, tiles of {tile}: of whole (goal {GOAL_TILES} for 256)"] = tiled / half
    found["decode, other convolution: of ours"] = other_convolution(bench, vae, latents) / half
    return found


def other_convolution(bench: Bench, vae: nn.Module, latents: Tensor) -> float:
    """Seconds with three 3x3 convolutions where ours has one of 3x3x3, or the other way round."""
    plain = arithmetic.convolves_whole
    arithmetic.convolves_whole = lambda device, dtype: not plain(device, dtype)
    try:
        return bench.seconds(partial(decode, vae, latents, torch.bfloat16), 1)
    finally:
        arithmetic.convolves_whole = plain


def encoding(bench: Bench, vae: nn.Module, shape: tuple[int, int, int]) -> dict[str, object]:
    """In float32, ours against the stock modules."""
    frames, height, width = shape[0], shape[1] * 8, shape[2] * 8

    @torch.inference_mode()
    def work() -> list[Tensor]:
        walk, chunk = open_encoder(vae), torch.zeros(1, 3, 4, height, width, device=bench.device)
        return [walk(chunk[:, :, : 4 if number else 1]) for number in range(frames)]

    ours, peak = bench.seconds(work, 1), bench.peak(work)
    with stock_modules():
        stock = bench.seconds(work, 1)
    return {"encode: of diffusers": ours / stock, "encode: s": ours, "encode: peak GB": peak / 1e9}


@torch.inference_mode()
def decode(
    vae: nn.Module,
    latents: Tensor,
    dtype: torch.dtype | None,
    tile_size: int = 0,
    is_frugal: bool = False,
) -> Tensor:
    """A whole video, on the device, [1, 3, T, H, W] in -1..1."""
    walk, (count, height, width) = open_decoder(vae, dtype, is_frugal), latents.shape[2:]
    result = latents.new_empty(1, 3, 4 * count - 3, height * 8, width * 8)

    def run(tile: object) -> object:
        walk.restart()
        rows, columns = tile.area(1)
        return (walk(latents[:, :, n : n + 1, rows, columns]) for n in range(count))

    plan = plan_tiles(height, width, tile_size)
    for frames, rows, columns, piece in blend_tiles(plan, 8, run, lambda: None):
        result[:, :, frames, rows, columns] = piece
    return result.clamp_(-1, 1)


def post(bench: Bench) -> dict[str, object]:
    """B9: to the host as IMAGE, Lanczos as two products with bands, RIFE."""
    from wan.media.frames import empty_frames, fill_image

    frames, height, width = (5, 64, 64) if bench.is_small else (81, 480, 832)
    memory = torch.rand(4, height, width, 3, device=bench.device, dtype=bench.dtype)
    piece, image = memory.permute(3, 0, 1, 2), empty_frames(4, height, width)
    found = dict[str, object]()
    found["decoded to IMAGE on the host: ms a frame"] = (
        bench.seconds(lambda: fill_image(piece, image), 5) / 4 * 1000
    )
    pixels = torch.rand(frames, 3, height, width, device=bench.device)
    enlarged = bench.seconds(lambda: lanczos(pixels, 2), 3)
    found[f"Lanczos 2x of {frames} frames: ms (goal 50 at 832x480)"] = enlarged * 1000
    found |= rife(bench, height, width)
    return found


def rife(bench: Bench, height: int, width: int) -> dict[str, object]:
    """One pair of frames."""
    import tempfile
    from pathlib import Path

    from bench import upsample
    from wan.progress import Silent

    with tempfile.TemporaryDirectory() as folder:
        dtype = torch.float32 if bench.device.type == "cpu" else torch.float16
        net = upsample.random_rife("4.26", str(bench.device), dtype, Path(folder))
        noise = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))
        frames = torch.cat([noise, noise * 0.97, noise * 0.94]).mul(255).to(torch.uint8)
        seconds = bench.seconds(lambda: upsample.interpolate(frames, net, 2, Silent()), 3)
    return {f"RIFE 4.26, {width}x{height}: ms a pair": seconds / 2 * 1000}


def lanczos(pixels: Tensor, factor: int) -> Tensor:
    """Rows and columns through a banded matrix each."""
    height, width = pixels.shape[-2:]
    return band(height, factor, pixels.device) @ pixels @ band(width, factor, pixels.device).T


def band(size: int, factor: int, device: torch.device) -> Tensor:
    """[size * factor, size]: what each new pixel takes of the old ones."""
    centres = (torch.arange(size * factor, device=device) + 0.5) / factor - 0.5
    apart = centres[:, None] - torch.arange(size, device=device)
    weights = torch.where(apart.abs() < 3, torch.sinc(apart) * torch.sinc(apart / 3), 0.0)
    return weights / weights.sum(1, keepdim=True)
