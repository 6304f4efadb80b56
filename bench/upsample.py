"""What upsampling costs: Lanczos against the float way around Pillow, RIFE per pair of frames.

Prints two Markdown tables and writes the numbers as JSON. All runs of a table are interleaved in
one process, seconds are medians; the machine's load is printed, since only the ratios within one
table mean anything. RIFE has random weights here, which cost what trained ones do.

    python bench/upsample.py [--frames 12] [--repeats 5] [--device cpu] [--json FILE]
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wan.progress import Silent
from wan.residency import DevicePlacement
from wan.upsample.lanczos import resize
from wan.upsample.rife.interpolate import interpolate
from wan.upsample.rife.layout import Encoder, Layout
from wan.upsample.rife.load import Rife, build_rife, load_rife, rife_dtype

WIDTH, HEIGHT = 832, 480
_HD = (192, 128, 96, 64)
LAYOUTS = {
    "v3 HD": Layout("v3 HD", (90, 90, 90), (4, 2, 1)),
    "4.7": Layout("4.7 to 4.9", _HD, (8, 4, 2, 1), encoder=Encoder(2, 16, 4)),
    "4.17": Layout("4.10 to 4.19 or 4.24", _HD, (8, 4, 2, 1), encoder=Encoder(4, 32, 8)),
    "4.26": Layout("4.25 or 4.26", (*_HD, 32), (16, 8, 4, 2, 1), 8, 1, Encoder(4, 16, 4), 8, 13),
}
GOALS = {"uint8, 1 thread": 0.55, "IMAGE, 1 thread": 0.80, "IMAGE, 2 threads": 0.45}
"""performance.md G8: of the float way, at most."""


def float_way(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Each frame from floating point to Pillow and back, all held at every step, one thread."""
    size = int(image.shape[2] * factor), int(image.shape[1] * factor)
    bytes_ = [np.clip(255.0 * frame.numpy(), 0, 255).astype(np.uint8) for frame in image]
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in bytes_]
    floats = [torch.from_numpy(np.array(p).astype(np.float32) / 255.0) for p in pictures]
    return torch.stack(floats)


def pillow_alone(pixels: torch.Tensor, factor: float) -> list[np.ndarray]:
    """What cannot be undercut with Pillow's numbers: its filter, each frame, and nothing else."""
    size = int(pixels.shape[2] * factor), int(pixels.shape[1] * factor)
    pictures = (Image.fromarray(frame.numpy()) for frame in pixels)
    return [np.asarray(p.resize(size, Image.Resampling.LANCZOS)) for p in pictures]


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """What each way takes, run in turns.

    Returns:
        By way: median wall and processor seconds (wall, cpu), and the medians of what they are of
        those of the first way in the same turn (wall_ratio, cpu_ratio).
    """
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            started, worked = time.perf_counter(), time.process_time()
            way()
            if turn:  # the first one warms up
                taken = time.perf_counter() - started, time.process_time() - worked
                turns[name].append(taken)
    base = turns[next(iter(ways))]
    found: dict[str, dict[str, float]] = {}
    for name, taken in turns.items():
        found[name] = {}
        for kind, column in (("wall", 0), ("cpu", 1)):
            found[name][kind] = statistics.median(t[column] for t in taken)
            ratios = [t[column] / b[column] for t, b in zip(taken, base, strict=True)]
            found[name][f"{kind}_ratio"] = statistics.median(ratios)
    return found


def lanczos(frames: int, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds by factor and way."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (frames, HEIGHT, WIDTH, 3), generator=generator)
    pixels = pixels.to(torch.uint8)
    image = pixels.float() / 255
    found = {}
    for factor in (1.5, 2.0):
        ways: dict[str, Callable[[], object]] = {
            "the float way, 1 thread": lambda f=factor: float_way(image, f)
        }
        ways["Pillow alone, uint8, 1 thread"] = lambda f=factor: pillow_alone(pixels, f)
        for threads in (1, 2):
            words = f"{threads} thread{'s' if threads > 1 else ''}"
            ways |= {
                f"uint8, {words}": lambda f=factor, n=threads: resize(pixels, f, Silent(), n),
                f"IMAGE, {words}": lambda f=factor, n=threads: resize(image, f, Silent(), n),
            }
        found[f"{factor:g}"] = measure(ways, repeats)
    return found


def random_rife(name: str, device: str, dtype: torch.dtype, folder: Path) -> Rife:
    """A network with random weights."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for key, tensor in build_rife(LAYOUTS[name]).state_dict().items():
        values = torch.randn(tensor.shape, generator=generator)
        tensors[key] = values / math.sqrt(max(1, tensor[0].numel())) if tensor.ndim > 1 else values
    path = folder / f"{name}.safetensors"
    save_file(tensors, path)
    # It stays on the device, so that its transfer is not measured.
    return load_rife(path, DevicePlacement(device, "off"), dtype)


def rife(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds per pair and arithmetic by version, for 2x on `options.pairs` pairs."""
    width, height = options.size
    count = options.pairs + 1
    # Noise that hardly moves: no pair is taken for a cut.
    noise = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(0))
    frames = (noise + torch.linspace(0, 0.05, count).view(-1, 1, 1, 1)).clamp(0, 1)
    frames = frames.mul(255).to(torch.uint8)
    dtype = {"auto": rife_dtype(torch.device(options.device)), "fp32": torch.float32}[
        options.precision
    ]
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        nets = {n: random_rife(n, options.device, dtype, Path(folder)) for n in LAYOUTS}
        for name, net in nets.items():
            found[name] = {"gflop": count_flops(net, frames[:2]), **memory(net, frames[:2])}
        ways = {n: lambda r=net: interpolate(frames, r, 2, Silent()) for n, net in nets.items()}
        for name, seconds in measure(ways, options.repeats).items():
            found[name]["seconds"] = seconds["wall"] / options.pairs
    return found


def count_flops(net: Rife, frames: torch.Tensor) -> float:
    """Arithmetic of one pair, in 10^9 operations."""
    with FlopCounterMode(display=False) as counter:
        interpolate(frames, net, 2, Silent())
    return counter.get_total_flops() / 1e9


def memory(net: Rife, frames: torch.Tensor) -> dict[str, float]:
    """On a GPU: values of 4 bytes that one pair holds, per pixel of the padded frame."""
    if net.net.device.type != "cuda":
        return {}
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    interpolate(frames, net, 2, Silent())
    held = torch.cuda.max_memory_allocated() - before
    height, width = (-(-side // 64) * 64 for side in frames.shape[1:3])
    return {"values_per_pixel": held / (height * width * 4)}


def print_lanczos(found: dict[str, dict[str, dict[str, float]]], frames: int) -> None:
    """The table of Lanczos."""
    print(f"\nLanczos, {frames} frames of {WIDTH}x{HEIGHT}\n")
    print("| factor | way | ms per frame | of the float way | goal | processor ms | of its |")
    print("|---|---|---|---|---|---|---|")
    for factor, ways in found.items():
        for name, row in ways.items():
            wall, busy = (row[kind] / frames * 1000 for kind in ("wall", "cpu"))
            goal = f"{GOALS[name]:.2f}" if name in GOALS else ""
            print(
                f"| {factor} | {name} | {wall:.1f} | {row['wall_ratio']:.2f} | {goal} "
                f"| {busy:.1f} | {row['cpu_ratio']:.2f} |"
            )


def print_rife(found: dict[str, dict[str, float]], options: argparse.Namespace) -> None:
    """The table of RIFE."""
    width, height = options.size
    print(f"\nRIFE 2x, {options.pairs} pairs of {width}x{height}, {options.device}\n")
    print("| version | ms per pair | GFLOP per pair | GFLOP/s | values per pixel |")
    print("|---|---|---|---|---|")
    for name, row in found.items():
        speed = row["gflop"] / row["seconds"]
        held = f"{row['values_per_pixel']:.0f}" if "values_per_pixel" in row else ""
        print(
            f"| {name} | {row['seconds'] * 1000:.1f} | {row['gflop']:.1f} | {speed:.0f} | {held} |"
        )


def main() -> None:
    """Measure, print, and write the JSON if a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=12, help="for Lanczos")
    parser.add_argument("--pairs", type=int, default=2, help="for RIFE")
    parser.add_argument("--size", type=int, nargs=2, default=(426, 240), help="for RIFE")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="for RIFE")
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto", help="for RIFE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    loads = [os.getloadavg()[0]]
    results = {"lanczos": lanczos(options.frames, options.repeats), "rife": rife(options)}
    loads.append(os.getloadavg()[0])
    load = f"{loads[0]:.1f} at the start, {loads[1]:.1f} at the end, {os.cpu_count()} cores"
    print(f"load {load}; torch uses {torch.get_num_threads()} threads")
    print_lanczos(results["lanczos"], options.frames)
    print_rife(results["rife"], options)
    if options.json:
        options.json.write_text(json.dumps({"load": load, **results}, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main()
