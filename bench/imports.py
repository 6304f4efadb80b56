"""How long the pack takes to import once torch is loaded, and what it brings in.

    python bench/imports.py [--repeats 7]

Each repeat is a process of its own; the median of the processor time and the machine's load are
printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.measure import Figure  # noqa: E402

HEAVY = ("diffusers", "transformers", "peft", "onnxruntime", "cv2")
CODE = """
import asyncio, importlib.util, sys, time
import torch, numpy, PIL.Image, av, aiohttp
sys.path.insert(0, {standin!r})
import comfy_api.latest, folder_paths, latent_preview, comfy.utils, comfy.model_patcher
before = set(sys.modules)
started = time.process_time()
spec = importlib.util.spec_from_file_location(
    "wan_local", {init!r}, submodule_search_locations=[{root!r}])
module = importlib.util.module_from_spec(spec)
sys.modules["wan_local"] = module
spec.loader.exec_module(module)
nodes = asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
taken = time.process_time() - started
heavy = sum(name in sys.modules and name not in before for name in {heavy!r})
print(taken, len(nodes), heavy)
"""
PEER = """
import time
import torch, numpy, PIL.Image
started = time.process_time()
from diffusers import WanImageToVideoPipeline
print(time.process_time() - started, 0, 0)
"""


def run(code: str, repeats: int) -> tuple[list[float], int, int]:
    """Processor seconds of each process, the number of nodes, and how many heavy packages came with them."""
    seconds, nodes, heavy = [], "0", "0"
    # As on any machine where it ran before: the first process compiles, and is not counted.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for number in range(repeats + 1):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        taken, nodes, heavy = done.stdout.split()
        if number:
            seconds.append(float(taken))
    return seconds, int(nodes), int(heavy)


def pack_code() -> str:
    """What a process runs to import the pack as ComfyUI does."""
    standin, init = ROOT / "tests" / "host" / "standin", ROOT / "__init__.py"
    return CODE.format(standin=str(standin), init=str(init), root=str(ROOT), heavy=HEAVY)


def rows(folder: Path) -> Iterator[Figure]:
    """A11: the import of the pack, beside that of the stock pipeline."""
    seconds, nodes, heavy = run(pack_code(), 3)
    peer = run(PEER, 1)[0][0] * 1000
    name, told = f"import of the pack, {nodes} nodes", "importing diffusers' pipeline"
    yield Figure("A11", name, statistics.median(seconds) * 1000, "ms", 150, told, peer)
    yield Figure("A11", f"of {', '.join(HEAVY)} imported with it", heavy, "packages", 0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    seconds, nodes, _ = run(pack_code(), parser.parse_args().repeats)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"import of the pack with {nodes} nodes: median {statistics.median(seconds) * 1000:.0f} ms, "
        f"{min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f}; load {load}"
    )


if __name__ == "__main__":
    main()
