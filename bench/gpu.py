"""What only a GPU can show: Wan's true size with random weights, whole and streamed.

    python -m bench.gpu [--budget 480] [--json gpu.json]

Needs a CUDA or ROCm device and RAM for the weights (33 GB for 40 blocks); says so where there is
none. Writes its JSON after every section, and begins none that the budget of seconds has no room
for. `--small` runs the same sections on a miniature, on the CPU too, to see that they run.

Sections: `ceilings` (matrix products, copies), `forward` (ours and diffusers' transformer, the same
weights and attention), `offload` (streamed against whole: time of a step, bytes moved, peak memory;
one and two passes through the weights), `vae` (decoding: time and peak, whole and in tiles).
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

from bench.true_size import CONFIG  # noqa: E402
from wan.load.transformer import build_transformer  # noqa: E402
from wan.payloads import Variant  # noqa: E402
from wan.residency import DevicePlacement, Part  # noqa: E402
from wan.sample.cache import ResidualCache  # noqa: E402
from wan.sample.forward import Branch, Step, predict_velocities  # noqa: E402
from wan.sample.rope import rotary_tables  # noqa: E402

SMALL = {**CONFIG, "num_attention_heads": 4, "attention_head_dim": 32, "ffn_dim": 256}
SMALL |= {"text_dim": 64, "num_layers": 6, "image_dim": 32, "added_kv_proj_dim": 128}
LATENTS, SMALL_LATENTS = (21, 60, 104), (3, 8, 8)  # 832x480, 81 frames
IMAGE_TOKENS, TEXT_TOKENS = 257, 512
GOAL_OFFLOAD, GOAL_PEAK = 1.03, 6e9


class Bench:
    """A run: where, how large, and what was found so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device("cpu" if options.small and not has_gpu() else "cuda")
        self.is_small, self.path = options.small, options.json
        self.dtype = torch.bfloat16
        self.config = SMALL if options.small else CONFIG
        self.latents = SMALL_LATENTS if options.small else LATENTS
        self.end = time.monotonic() + options.budget
        self.found: dict[str, object] = {"machine": machine(self.device), "small": self.is_small}

    def save(self, section: str, values: dict[str, object]) -> None:
        """Keep what a section found, and write everything."""
        self.found[section] = values
        for name, value in values.items():
            print(f"{section:<10}{name:<34}{value:.4g}" if isinstance(value, float) else value)
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
    return {"device": name, "torch": torch.__version__}


def ceilings(bench: Bench) -> dict[str, object]:
    """What the device reaches at best."""
    side = 256 if bench.is_small else 8192
    a = torch.randn(side, side, device=bench.device, dtype=bench.dtype)
    seconds = bench.seconds(lambda: a @ a, 5)
    count = (1 << 20) if bench.is_small else (1 << 30)
    source = torch.empty(count, dtype=torch.uint8)
    if bench.device.type == "cuda":
        source = source.pin_memory()
    target = torch.empty(count, dtype=torch.uint8, device=bench.device)
    pinned = bench.seconds(lambda: target.copy_(source, non_blocking=True), 5)
    return {"matmul TFLOP/s": 2 * side**3 / seconds / 1e12, "to device GB/s": count / pinned / 1e9}


def random_transformer(bench: Bench) -> torch.nn.Module:
    """Random weights of the true shapes, on the CPU; made where that is fast."""
    model = build_transformer(Variant.I2V, bench.config)
    model.rope = type(model.rope)(
        bench.config["attention_head_dim"], bench.config["patch_size"], 1024
    )
    generator = torch.Generator(bench.device).manual_seed(0)
    for module in model.modules():
        for name, like in module._parameters.items():
            if like is None or not like.is_meta:
                continue
            values = torch.empty(like.shape, device=bench.device, dtype=bench.dtype)
            values.normal_(0, 0.02, generator=generator)
            is_kept = any(k in name for k in ("scale_shift_table",))
            values = values.float() if is_kept else values
            module._parameters[name] = torch.nn.Parameter(values.cpu(), requires_grad=False)
    return model.eval()


def step(bench: Bench, model: torch.nn.Module, joint: bool) -> Callable[[], object]:
    """One step with guidance: two branches, in one pass through the weights or two."""
    dim = bench.config["num_attention_heads"] * bench.config["attention_head_dim"]
    frames, height, width = bench.latents
    hidden = torch.randn(1, 36, frames, height, width, device=bench.device, dtype=bench.dtype)
    tokens = IMAGE_TOKENS + TEXT_TOKENS
    branches = [
        Branch(torch.randn(1, tokens, dim, device=bench.device, dtype=bench.dtype))
        for _ in range(2)
    ]
    from wan.geometry import LatentShape

    rotary = rotary_tables(model.rope, LatentShape(*bench.latents), None, bench.device)
    time_step = torch.tensor([500], device=bench.device)
    groups = [branches] if joint else [[branch] for branch in branches]

    def work() -> None:
        with torch.inference_mode():
            for group in groups:
                numbers = tuple(range(len(group)))
                cache = Step(ResidualCache(), numbers=numbers)
                predict_velocities(model, hidden, time_step, group, rotary, cache, lambda: None)

    return work


def forward(bench: Bench, model: torch.nn.Module) -> dict[str, object]:
    """Ours and diffusers' forward of the same module, whole on the device."""
    part = Part("transformer", lambda: model, DevicePlacement(bench.device, "off"), stack="blocks")
    frames, height, width = bench.latents
    with part.on_device() as module:
        ours = bench.seconds(step(bench, module, joint=False)) / 2
        hidden = torch.randn(1, 36, frames, height, width, device=bench.device, dtype=bench.dtype)
        text = torch.randn(1, TEXT_TOKENS, bench.config["text_dim"]).to(hidden)
        image = torch.randn(1, IMAGE_TOKENS, bench.config["image_dim"]).to(hidden)
        when = torch.tensor([500], device=bench.device)

        def theirs() -> None:
            with torch.inference_mode():
                module(hidden, when, text, image, return_dict=False)

        peer = bench.seconds(theirs)
    part.release()
    return {"ours s": ours, "diffusers s": peer, "ratio": ours / peer}


def offload(bench: Bench, model: torch.nn.Module) -> dict[str, object]:
    """A step streamed against the same step with everything on the device."""
    found: dict[str, object] = {}
    for joint in (True, False):
        name = "joint" if joint else "two passes"
        times = {}
        for how in ("off", "blocks"):
            placement = DevicePlacement(bench.device, how)
            part = Part("transformer", lambda: model, placement, stack="blocks")
            with part.on_device() as module:
                work = step(bench, module, joint)
                times[how] = bench.seconds(work)
                found[f"{name}, {how}: s"] = times[how]
                found[f"{name}, {how}: peak GB"] = bench.peak(work) / 1e9
                ring = getattr(part._source.owned, "_ring", None)
                if ring is not None:
                    before = ring.moved_bytes
                    work()
                    found[f"{name}, {how}: GB moved"] = (ring.moved_bytes - before) / 1e9
            part.release()
            del part, placement
        found[f"{name}: ratio (goal {GOAL_OFFLOAD})"] = times["blocks"] / times["off"]
    return found


def vae(bench: Bench) -> dict[str, object]:
    """Decoding, by size of the tiles."""
    from diffusers import AutoencoderKLWan

    from wan.decode.vae import decode_video
    from wan.payloads import VideoLatents, WanModel
    from wan.progress import Silent

    size = {"base_dim": 8} if bench.is_small else {}
    module = AutoencoderKLWan(**size).eval().requires_grad_(False)
    part = Part("vae", lambda: module, DevicePlacement(bench.device, "off"))
    model = WanModel("bench", Variant.I2V, {}, part, part, part, part, None)  # type: ignore[arg-type]
    frames = 2 if bench.is_small else bench.latents[0]
    latents = torch.randn(1, 16, frames, *bench.latents[1:])
    video = VideoLatents(latents, 4 * (frames - 1) + 1, seed=0)
    found: dict[str, object] = {}
    for tile in (0, 256, 128):
        work = lambda tile=tile: decode_video(model, video, Silent(), tile)  # noqa: E731
        found[f"tiles of {tile}: s"] = bench.seconds(work, 1)
        found[f"tiles of {tile}: peak GB"] = bench.peak(work) / 1e9
    return found


def main() -> int:
    """Run the sections that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=480, help="seconds for everything")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true", help="a miniature, on any device")
    options = parser.parse_args()
    if not has_gpu() and not options.small:
        print("There is no GPU here that PyTorch can use: nothing was measured. (--small: a try)")
        return 0
    bench = Bench(options)
    bench.save("ceilings", ceilings(bench))
    model = random_transformer(bench)
    for name, section, needed in (("offload", offload, 150), ("forward", forward, 60)):
        if time.monotonic() + needed < bench.end:
            bench.save(name, section(bench, model))
    del model
    if time.monotonic() + 60 < bench.end:
        bench.save("vae", vae(bench))
    return 0


if __name__ == "__main__":
    sys.exit(main())
