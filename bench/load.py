"""How fast a transformer of Wan's true width is loaded, and how much memory that takes.

    python -m bench.load [--blocks 2] [--repeats 5] [--json FILE]

Makes a file of more than a gigabyte (random numbers, the original names of the 14B model with
fewer blocks) in a temporary folder, and loads it in processes of their own, in turns with reading
the file's bytes. A loaded weight counts only once every page of it was touched. Memory is the
highest resident size of the process less that before loading; pages of a mapped file are in it,
though the system could take them back.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from bench.measure import load as machine_load  # noqa: E402
from bench.true_size import CONFIG  # noqa: E402

GOAL_TIME, GOAL_MEMORY = 1.15, 1.1
PAGE = 4096


def make_file(path: Path, blocks: int, is_fp8: bool) -> int:
    """Write the file; returns its bytes."""
    from safetensors.torch import save_file

    from wan.load.keys import to_original, transformer_rows
    from wan.load.transformer import build_transformer
    from wan.payloads import Variant

    model = build_transformer(Variant.I2V, {**CONFIG, "num_layers": blocks})
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, like in model.state_dict().items():
        values = torch.empty(like.shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        tensors[name] = values
    original = to_original(tensors, transformer_rows())
    if is_fp8:
        scales = {}
        for name, values in original.items():
            if values.ndim == 2 and name.startswith("blocks.") and "modulation" not in name:
                original[name] = (values.float() * 1000).to(torch.float8_e4m3fn)
                scales[name.replace(".weight", ".scale_weight")] = torch.tensor(0.001)
        original |= {**scales, "scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    save_file(original, path)
    return path.stat().st_size


def child(what: str, path: Path) -> dict[str, float]:
    """Do it once in this process."""
    import diffusers  # noqa: F401 - what loading imports on first use is no part of it
    from diffusers import WanTransformer3DModel  # noqa: F401

    from wan.load.transformer import load_transformer
    from wan.residency import DevicePlacement, Part

    torch.set_num_threads(1)
    reset_peak()
    before, begin = resident("VmRSS"), time.perf_counter()
    if what == "read":
        with path.open("rb", buffering=0) as file:
            data = torch.empty(path.stat().st_size, dtype=torch.uint8)
            view, done = memoryview(data.numpy()), 0
            while count := file.readinto(view[done:]):
                done += count
    else:
        model = load_transformer(path, torch.bfloat16)
        if what == "stream":
            part = Part("x", lambda: model, DevicePlacement("cpu", "blocks"), stack="blocks")
            with part.on_device():
                pass
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.detach().view(-1).view(torch.uint8)[::PAGE].sum()
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "bytes": resident("VmHWM") - before}


def reset_peak() -> None:
    """Forget the highest resident size so far."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(name: str) -> int:
    """Bytes of this process by the name of a line in its status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def run(what: str, path: Path) -> dict[str, float]:
    """Do it once in a process of its own."""
    command = [sys.executable, "-m", "bench.load", "--child", what, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=2, help="of 808 MB each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child[0], Path(options.child[1]))))
        return
    print(machine_load())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("bf16", "scaled fp8"):
            path = Path(folder) / "model.safetensors"
            size = make_file(path, options.blocks, kind != "bf16")
            runs = {what: [] for what in ("read", "load", "stream")}
            run("read", path)  # the file is in the system's memory from here on
            for _ in range(options.repeats):
                for what, results in runs.items():
                    results.append(run(what, path))
            rows += [summary(kind, what, size, runs) for what in runs]
    print(
        f"{'file':<11}{'what':<8}{'GB':>6}{'s':>8}{'x read':>8}{'goal':>6}{'RAM / file':>12}{'goal':>6}"
    )
    for row in rows:
        goals = (GOAL_TIME, GOAL_MEMORY) if row["what"] == "load" else ("", "")
        print(
            f"{row['file']:<11}{row['what']:<8}{row['bytes'] / 1e9:>6.2f}{row['seconds']:>8.2f}"
            f"{row['to_read']:>8.2f}{goals[0]:>6}{row['memory_to_file']:>12.2f}{goals[1]:>6}"
        )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine_load(), "rows": rows}, indent=1))


def summary(kind: str, what: str, size: int, runs: dict) -> dict:
    """Medians of one row."""
    pairs = zip(runs[what], runs["read"], strict=True)
    return {
        "file": kind,
        "what": what,
        "bytes": size,
        "seconds": statistics.median(r["seconds"] for r in runs[what]),
        "to_read": statistics.median(a["seconds"] / b["seconds"] for a, b in pairs),
        "memory_to_file": max(r["bytes"] for r in runs[what]) / size,
    }


if __name__ == "__main__":
    main()
