"""What saving, reading and converting frames costs, beside what others do.

Prints a Markdown table, and writes the figures as JSON if asked. The ways of a task are run in
turn, so that a busy machine slows all of them, and compared within each turn. Shown are medians,
of wall time and of the CPU time of all threads. Only ratios mean anything; the load is printed
for that.

    python bench/video.py [--frames 41] [--size 1280x720] [--repeats 5] [--json FILE]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wan.media.formats import Encoding, find_format
from wan.media.frames import ToPixels, empty_frames, fill_from_pixels, fill_image
from wan.preprocess.video import read_video
from wan.progress import Silent
from wan.save.video import write_video

FPS = Fraction(16)
Way = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One way to do something: seconds per frame, and how many times the first way's."""

    task: str
    way: str
    wall: float
    cpu: float
    wall_ratio: float
    cpu_ratio: float


def moving_picture(frames: int, height: int, width: int) -> np.ndarray:
    """A soft texture that drifts, with grain, as filmed pictures have: [T, H, W, 3] uint8."""
    seeded = torch.Generator().manual_seed(0)
    rough = torch.rand(1, 3, height // 16 + 8, width // 16 + 8, generator=seeded)
    picture = interpolate(rough, scale_factor=16, mode="bicubic")[0]
    found = np.empty((frames, height, width, 3), np.uint8)
    for index, frame in enumerate(found):
        part = picture[:, index : index + height, 2 * index % 64 :][:, :, :width]
        grain = torch.randn(part.shape, generator=seeded) * 0.004
        frame[:] = (part + grain).clamp(0, 1).mul(255).permute(1, 2, 0).byte().numpy()
    return found


def measure(task: str, ways: dict[str, Way], frames: int, repeats: int) -> Iterator[Row]:
    """Run the ways in turn; the first is what the others are compared with."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for name, way in [*ways.items(), *list(ways.items()) * repeats]:  # once to warm up
        wall, cpu = time.perf_counter(), time.process_time()
        way()
        seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    first = seconds[next(iter(ways))][1:]
    for name, turns in seconds.items():
        wall, cpu = (statistics.median(turn[i] for turn in turns[1:]) for i in (0, 1))
        ratios = [
            statistics.median(t[i] / f[i] for t, f in zip(turns[1:], first, strict=True))
            for i in (0, 1)
        ]
        yield Row(task, name, wall / frames, cpu / frames, *ratios)


def saving(pixels: np.ndarray, images: Tensor, folder: Path) -> dict[str, Way]:
    """Images to an H.264 file. All use the same encoder options and one conversion to yuv420p."""
    encoding, path = Encoding(find_format("mp4 H.264")), folder / "saved.mp4"
    height, width = pixels.shape[1:3]

    def encode(frames: Iterator[av.VideoFrame]) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options=encoding.options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in frames:
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    def bare() -> None:
        encode(av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in pixels)

    def as_core() -> None:
        scaled = ((image * 255).clamp(0, 255).byte().numpy() for image in images)
        encode(
            av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            for frame in scaled
        )

    return {
        "bare libx264, fed with uint8": bare,
        "ours, from uint8": lambda: write_video(path, [torch.from_numpy(pixels)], FPS, encoding),
        "ours, from IMAGE": lambda: write_video(path, [images], FPS, encoding),
        "as ComfyUI's Save Video, from IMAGE": as_core,
    }


def reading(pixels: np.ndarray, folder: Path) -> dict[str, Way]:
    """An H.264 file to uint8 frames in memory, and to float32 as core's nodes do it."""
    path = folder / "read.mp4"
    write_video(path, [torch.from_numpy(pixels)], FPS)

    def bare() -> np.ndarray:
        found = np.empty_like(pixels)
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for target, frame in zip(found, container.decode(video=0), strict=True):
                target[:] = frame.to_ndarray(format="rgb24")
        return found

    def as_core() -> Tensor:
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return torch.stack([torch.from_numpy(frame) for frame in frames]).float() / 255

    return {
        "bare PyAV, to uint8": bare,
        "ours, to uint8": lambda: read_video(path, -1),
        "all frames to float32": as_core,
    }


def vae_to_image(frames: int, height: int, width: int) -> dict[str, Way]:
    """What a VAE gives, bfloat16, to IMAGE."""
    seeded = torch.Generator().manual_seed(0)
    decoded = torch.randn(3, frames, height, width, generator=seeded).bfloat16()
    result = empty_frames(frames, height, width)
    laid = decoded.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)  # as our decoder gives it
    return {
        "float, add, div, clamp, permute, contiguous": lambda: (
            decoded.float().add(1).div(2).clamp(0, 1).permute(1, 2, 3, 0).contiguous()
        ),
        "ours, in place": lambda: fill_image(decoded, result),
        "ours, in place, from our decoder": lambda: fill_image(laid, result),
    }


def image_to_pixels(images: Tensor) -> dict[str, Way]:
    """IMAGE to uint8, as an encoder takes it."""

    def ours() -> None:
        pixels = ToPixels()
        for image in images:
            pixels(image)

    return {
        "mul, clamp, round, to uint8": lambda: images.mul(255).clamp(0, 255).round().byte(),
        "ours, frame by frame": ours,
    }


def pixels_to_image(pixels: np.ndarray) -> dict[str, Way]:
    """uint8 to IMAGE."""
    return {
        "float, div": lambda: torch.from_numpy(pixels).float() / 255,
        "ours": lambda: as_image(pixels),
    }


def as_image(pixels: np.ndarray) -> torch.Tensor:
    """uint8 as IMAGE, in memory taken for it."""
    return fill_from_pixels([torch.from_numpy(pixels)], empty_frames(*pixels.shape[:3]), Silent())


def load_text() -> str:
    """The machine's load over 1, 5 and 15 minutes."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"load {load} on {os.cpu_count()} cores"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=41)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, options.size.split("x"))
    pixels = moving_picture(options.frames, height, width)
    images = as_image(pixels)
    print(f"{options.frames} frames of {width}x{height}; {load_text()}\n")
    print("| task | way | ms per frame | CPU ms | wall | CPU |\n|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task, ways in (
            ("save", saving(pixels, images, folder)),
            ("read", reading(pixels, folder)),
            ("VAE to IMAGE", vae_to_image(min(options.frames, 8), height, width)),
            ("IMAGE to uint8", image_to_pixels(images[:8])),
            ("uint8 to IMAGE", pixels_to_image(pixels[:8])),
        ):
            count = options.frames if task in ("save", "read") else min(options.frames, 8)
            for row in measure(task, ways, count, options.repeats):
                rows.append(asdict(row))
                figures = f"{row.wall * 1000:.1f} | {row.cpu * 1000:.1f} | "
                figures += f"{row.wall_ratio:.2f}x | {row.cpu_ratio:.2f}x"
                print(f"| {row.task} | {row.way} | {figures} |", flush=True)
    print(f"\n{load_text()} at the end")
    if options.json:
        told = {"frames": options.frames, "size": options.size, "repeats": options.repeats}
        told |= {"av": av.__version__, "torch": torch.__version__, "load": os.getloadavg()}
        options.json.write_text(json.dumps({**told, "rows": rows}, indent=1), "utf8")


if __name__ == "__main__":
    main()
