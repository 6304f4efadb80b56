"""Tier A: everything that a CPU can show, ours and peers in turns, in under five minutes.

    python -m bench [--only post import ...] [--repeats 3] [--budget 290] [--json FILE]

Prints two Markdown tables: what was timed, and what was counted. It judges nothing and always ends
with 0: times on a busy machine are no gate. `bench/README.md` says how to read it.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.measure import Figure, Result, Row, load, measure, print_figures, print_table

ROW_SECONDS = 5.0
"""A row that takes longer is repeated twice only."""
SECTIONS = {
    "pipeline": "E: a whole video",
    "forward": "A1 to A4: the transformer",
    "offload": "A5: streamed blocks",
    "autoencoder": "A6: the VAE",
    "post": "A7, A8, A10, A12: frames, masks, RIFE",
    "files": "A9, A13: video files",
    "imports": "A11: import",
}
"""Modules of this folder, in running order. Each has `rows(folder)`, a generator of `Row`s, which are
timed here, and `Figure`s, which are not; the folder is empty and temporary."""


def run(
    chosen: list[str], repeats: int, budget: float
) -> tuple[list[Result], list[Figure], list[str]]:
    """All rows of the sections; what was left out, and why, comes last."""
    end = time.monotonic() + budget
    results, figures, left_out = list[Result](), list[Figure](), list[str]()
    for name in chosen:
        if find_spec(f"bench.{name}") is None:
            left_out.append(f"{name} ({SECTIONS[name]}): not there")
            continue
        try:
            for row in _rows(name):
                if isinstance(row, Figure):
                    figures.append(row)
                elif time.monotonic() > end:
                    left_out.append(f"{row.id} {row.name}: no time left")
                else:
                    results += measure(row, repeats, ROW_SECONDS)
                left = end - time.monotonic()
                print(f"{left:4.0f} s left: {row.id} {row.name}", file=sys.stderr, flush=True)
        except Exception as error:  # the others are still worth having
            left_out.append(f"the rest of {name}: {type(error).__name__}: {error}")
    return results, figures, left_out


def _rows(name: str) -> Iterator[Row | Figure]:
    with tempfile.TemporaryDirectory() as folder:
        yield from import_module(f"bench.{name}").rows(Path(folder))


def machine() -> dict[str, object]:
    """What the figures belong to."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """Its name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=290, help="seconds; no row begins later")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    before, begin = load(), time.monotonic()
    results, figures, left_out = run(options.only, options.repeats, options.budget)
    taken, after, about = time.monotonic() - begin, load(), machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(f"{before} at the start, {after} at the end; {options.repeats} repeats, {taken:.0f} s\n")
    print_table(results)
    print()
    print_figures(figures)
    for line in left_out:
        print(f"\nLeft out: {line}")
    if options.json:
        told = {**about, "load": [before, after], "seconds": taken, "left_out": left_out}
        told |= {"rows": [asdict(r) for r in results], "figures": [asdict(f) for f in figures]}
        options.json.write_text(json.dumps(told, indent=1) + "\n", "utf8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
