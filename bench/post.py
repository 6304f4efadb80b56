"""A7, A8, A10, A12: what is done to frames and masks beside the models."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from bench import preprocess, upsample, video
from bench.measure import Figure, Row, rows_of
from wan.progress import Silent

LANCZOS_FRAMES, FRAMES = 4, 8
WIDTH, HEIGHT = 1280, 720


def rows(folder: Path) -> Iterator[Row | Figure]:
    """All of them."""
    yield from lanczos_rows()
    yield from conversion_rows()
    for row in preprocess.mask_rows():
        yield replace(row, id="A10", threads=(1,))
    yield from rife_rows(folder)


def lanczos_rows() -> Iterator[Row]:
    """A7: the goals of performance.md G8, against the float way around Pillow."""
    size = (LANCZOS_FRAMES, upsample.HEIGHT, upsample.WIDTH, 3)
    pixels = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0))
    pixels = pixels.to(torch.uint8)
    image = pixels.float() / 255
    peer, floor = "the float way, 1 thread", "Pillow alone, uint8"
    for factor in (1.5, 2.0):
        for kind, given in (("uint8", pixels), ("IMAGE", image)):
            for threads in (1, 2):
                name = f"{kind}, {threads} thread{'s' * (threads > 1)}"
                ways = {
                    peer: partial(upsample.float_way, image, factor),
                    name: partial(upsample.resize, given, factor, Silent(), threads),
                }
                task = f"Lanczos {factor:g}x"
                yield from rows_of("A7", task, ways, LANCZOS_FRAMES, upsample.GOALS, (threads,))
        ways = {
            floor: partial(upsample.pillow_alone, pixels, factor),
            "uint8, 1 thread": partial(upsample.resize, pixels, factor, Silent(), 1),
        }
        yield from rows_of("A7", f"Lanczos {factor:g}x", ways, LANCZOS_FRAMES, {})


def conversion_rows() -> Iterator[Row]:
    """A8: between what the VAE gives, images and pixels."""
    pixels = video.moving_picture(FRAMES, HEIGHT, WIDTH)
    images = video.as_image(pixels)
    goals = {"ours, in place": 0.25, "ours, in place, from our decoder": 0.25}
    for task, ways in (
        ("VAE to IMAGE", video.vae_to_image(FRAMES, HEIGHT, WIDTH)),
        ("IMAGE to uint8", video.image_to_pixels(images)),
        ("uint8 to IMAGE", video.pixels_to_image(pixels)),
    ):
        yield from rows_of("A8", task, ways, FRAMES, goals)


def rife_rows(folder: Path) -> Iterator[Row | Figure]:
    """A12: one pair of frames, and the arithmetic of a pair of 832x480."""
    name, pairs = "4.26", 1
    net = upsample.random_rife(name, "cpu", torch.float32, folder)
    noise = torch.rand(1, 240, 426, 3, generator=torch.Generator().manual_seed(0))
    frames = torch.cat([noise, noise * 0.95]).mul(255).to(torch.uint8)
    work = partial(upsample.interpolate, frames, net, 2, Silent())
    yield Row(f"RIFE {name}, one pair of 426x240", work, frames=pairs, id="A12")
    large = torch.zeros(2, upsample.HEIGHT, upsample.WIDTH, 3, dtype=torch.uint8)
    gflop = upsample.count_flops(net, large)
    yield Figure("A12", f"RIFE {name}, arithmetic of a pair of 832x480", gflop, "GFLOP")


def main() -> None:
    """List the rows."""
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            print(row.id, row.name)


if __name__ == "__main__":
    main()
