"""What it costs and saves to let several ranks compute one forward.

    python -m bench.parallel [--ranks 2 4] [--device cpu|cuda] [--repeats 5] [--json FILE]

On GPUs, as many as there are ranks, at Wan's true size with random weights, two blocks of it; on the
CPU a miniature. Prints the bytes that leave a rank in a block, counted, beside the formula, and the
time beside one rank alone. On the CPU all ranks share the cores of this machine, and each has one
thread: what that time says is how much the exchange costs, not how fast several machines are.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.measure import load
from bench.true_size import CONFIG, SMALL
from wan.geometry import LatentShape
from wan.parallel import Split, rank_devices
from wan.parallel.attention import block_bytes, uses_heads
from wan.parallel.group import Group, open_store
from wan.sample.cache import ResidualCache
from wan.sample.cross import Branch
from wan.sample.forward import Network, Step, embed_time, predict_velocities
from wan.sample.rope import Rotary, rotary_tables

LATENTS, SMALL_LATENTS = LatentShape(21, 60, 104), LatentShape(3, 32, 48)
CONTEXT, BLOCKS = 257 + 512, 2


def forward(device: torch.device, split: Split | None, repeats: int) -> float:
    """Median seconds of a forward of two blocks and one branch."""
    from bench.gpu_models import random_transformer

    is_small = device.type == "cpu"
    config, shape = (SMALL, SMALL_LATENTS) if is_small else (CONFIG, LATENTS)
    dtype = torch.float32 if is_small else torch.bfloat16
    model = random_transformer(
        SimpleNamespace(config=config, device=device, dtype=dtype), BLOCKS, device
    )
    options = {"device": device, "dtype": dtype}
    hidden = torch.randn(1, 36, shape.frames, shape.height, shape.width, **options)
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    branch = Branch(torch.randn(1, CONTEXT, dim, **options))
    tables = rotary_tables(model.rope, shape, None, device)
    if split is not None:
        tables = (split.own(tables[0]), split.own(tables[1]))
    network, step = Network(model, Rotary.of(tables), split=split), Step(ResidualCache())
    times = []
    with torch.inference_mode():
        moment = embed_time(model, torch.tensor([500]), hidden)
        for number in range(repeats + 1):
            if split is not None:
                split.group.sent.clear()
                split.group.tell(1) if split.group.rank == 0 else split.group.hear()
            begin = time.perf_counter()
            predict_velocities(network, hidden, moment, [branch], step, lambda: None)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                times.append(time.perf_counter() - begin)
    return statistics.median(times)


def member(rank: int, ranks: int, device: str, port: int, repeats: int, pipe: Connection) -> None:
    """One rank; sends its time and what left it."""
    if device == "cpu":
        torch.set_num_threads(1)
    group = Group(rank, ranks, torch.device(device), open_store(ranks, port))
    shape = SMALL_LATENTS if device == "cpu" else LATENTS
    seconds = forward(torch.device(device), Split(group, shape.tokens), repeats)
    pipe.send((seconds, dict(group.sent)))
    group.leave()


def together(ranks: int, device: torch.device, repeats: int) -> dict[str, Any]:
    """A forward of several ranks: its time, and the bytes beside the formula."""
    store, apart = open_store(ranks), multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank, own in enumerate(rank_devices(device, ranks)):
        here, there = apart.Pipe()
        arguments = (rank, ranks, str(own), store.port, repeats, there)
        processes.append(apart.Process(target=member, args=arguments, daemon=True))
        processes[-1].start()
        pipes.append(here)
    found = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    is_small = device.type == "cpu"
    config, shape = (SMALL, SMALL_LATENTS) if is_small else (CONFIG, LATENTS)
    heads = config["num_attention_heads"]
    dim = heads * config["attention_head_dim"]
    sent = [counts.get("exchange", 0) + counts.get("ring", 0) for _, counts in found]
    return {
        "way": "Ulysses" if uses_heads(ranks, heads) else "ring",
        "seconds": max(seconds for seconds, _ in found),
        "bytes a block, counted": sum(sent) / ranks / BLOCKS,
        "bytes a block, formula": block_bytes(
            shape.tokens, dim, heads, ranks, 4 if is_small else 2
        ),
        "bytes gathered": sum(counts["gather"] for _, counts in found) / ranks,
    }


def measure(ranks: list[int], device: torch.device, repeats: int) -> dict[str, Any]:
    """All numbers of ranks that there are devices for, beside one alone."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    alone = forward(device, None, repeats)
    found: dict[str, Any] = {"alone": {"seconds": alone}}
    for count in ranks:
        found[str(count)] = row = together(count, device, repeats)
        row["of the time alone"] = row["seconds"] / alone
    return found


def section(bench: Any) -> dict[str, object]:
    """B11: forwards of two blocks on several GPUs beside one."""
    count = torch.cuda.device_count()
    if count < 2 and not bench.is_small:
        return {"left out": f"B11 ranks: there is {count} GPU, and it takes two"}
    device = torch.device("cuda" if count > 1 else "cpu")
    ranks = [n for n in (2, 4, 8) if n <= count] if count > 1 else [2]
    found = measure(ranks, device, 3)
    return {
        f"{number} ranks: {name}": value
        for number, row in found.items()
        for name, value in row.items()
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--device", default="cuda" if torch.cuda.device_count() > 1 else "cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    found = {"load": load(), **measure(options.ranks, device, options.repeats)}
    print(f"{device}, {found['load']}; one rank alone: {found['alone']['seconds']:.4f} s")
    print("| ranks | way | bytes a block, counted | formula | gathered | time of that alone |")
    print("|---|---|---|---|---|---|")
    for count in options.ranks:
        row = found[str(count)]
        print(
            f"| {count} | {row['way']} | {row['bytes a block, counted']:.0f} | "
            f"{row['bytes a block, formula']:.0f} | {row['bytes gathered']:.0f} | "
            f"{row['of the time alone']:.2f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
