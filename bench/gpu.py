"""Tier B: what only a GPU can show, at Wan's true size with random weights.

    python -m bench.gpu [--budget 480] [--only B0 B1 ...] [--json gpu.json]

Needs a CUDA or ROCm device, for the streamed blocks of B5 RAM for the weights (33 GB); says so where
there is none. Writes its JSON after every section, and begins none that the budget of seconds has no
room for. `--small` runs the same sections on a miniature, on the CPU too, to see that they run.
`bench/README.md` says what each section is for.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.true_size import CONFIG, SMALL  # noqa: E402

LATENTS, SMALL_LATENTS = (21, 60, 104), (3, 8, 8)  # 832x480, 81 frames
LARGE_LATENTS = (21, 90, 160)  # 1280x720, 81 frames; as many tokens as 77 frames to animate


class Bench:
    """A run: where, how large, and what was found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device("cpu" if options.small and not has_gpu() else "cuda")
        self.budget = float(options.budget)
        self.is_small, self.path = options.small, options.json
        self.dtype = torch.bfloat16
        self.config = SMALL if options.small else CONFIG
        self.latents = SMALL_LATENTS if options.small else LATENTS
        self.end = time.monotonic() + options.budget
        self.peak_flops = 0.0  # of a matrix product, found by B0
        self.found: dict[str, object] = {"machine": machine(self.device), "small": self.is_small}

    def save(self, section: str, values: dict[str, object]) -> None:
        """Keep what a section found, and write everything."""
        self.found[section] = values
        for name, value in values.items():
            print(
                f"{section:<14}{name:<56}{value:.4g}"
                if isinstance(value, float)
                else f"{section:<14}{name}: {value}"
            )
        if self.path:
            self.path.write_text(json.dumps(self.found, indent=1))

    def seconds(self, work: Callable[[], object], repeats: int = 3) -> float:
        """Median time of some work, after one try that does not count."""
        times = []
        for number in range(repeats + 1):
            self.wait()
            begin = time.perf_counter()
            work()
            self.wait()
            if number:
                times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def wait(self) -> None:
        """Until the device has done all it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak(self, work: Callable[[], object]) -> float:
        """Most bytes allocated on the device during some work; 0 on the CPU."""
        if self.device.type != "cuda":
            work()
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        self.wait()
        return float(torch.cuda.max_memory_allocated(self.device))


def has_gpu() -> bool:
    """Whether PyTorch has one here."""
    return torch.cuda.is_available()


def machine(device: torch.device) -> dict[str, object]:
    """What the figures belong to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}


def sections() -> dict[str, tuple[Callable[[Bench], dict[str, object]], float]]:
    """What there is: each section and the seconds it takes on an H200, generously."""
    from bench import gpu_kernels, gpu_models, gpu_video, parallel

    return {
        "B0 ceilings": (gpu_kernels.ceilings, 30),
        "B1 attention": (gpu_kernels.attention, 60),
        "B2 forward": (gpu_models.forward, 120),
        "B4 branches": (gpu_models.branches, 40),
        "B6 vae": (gpu_video.autoencoder, 120),
        "B7 fp8": (gpu_kernels.fp8, 30),
        "B8 animate": (gpu_models.animate, 60),
        "B9 post": (gpu_video.post, 30),
        "B10 load": (gpu_models.load, 60),
        "B11 ranks": (parallel.section, 90),
        "B5 offload": (gpu_models.offload, 150),  # last: pinning 33 GB takes longest
    }


def main() -> int:
    """Run the sections that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything")
    parser.add_argument("--only", nargs="*", help="sections, by their number")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true", help="a miniature, on any device")
    options = parser.parse_args()
    if not has_gpu() and not options.small:
        print("There is no GPU here that PyTorch can use: nothing was measured. (--small: a try)")
        return 0
    bench = Bench(options)
    for name, (section, needed) in sections().items():
        if options.only and name.split()[0] not in options.only:
            continue
        if not bench.is_small and time.monotonic() + needed > bench.end:
            bench.save(name, {"left out": f"{name}: the budget has no {needed:g} s left"})
            continue
        try:
            bench.save(name, section(bench))
        except Exception as error:  # the sections after it are still worth having
            bench.save(name, {"failed": f"{name}: {type(error).__name__}: {error}"})
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
