"""How long the pack takes to import once torch is loaded, and what it brings in.

    python bench/imports.py [--repeats 7]

Each repeat is a process of its own; the median and the machine's load are printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import asyncio, importlib.util, sys, time
import torch, numpy, PIL.Image, av, aiohttp
sys.path.insert(0, {standin!r})
import comfy_api.latest, folder_paths, latent_preview, comfy.utils, comfy.model_patcher
started = time.perf_counter()
spec = importlib.util.spec_from_file_location(
    "wan_local", {init!r}, submodule_search_locations=[{root!r}])
module = importlib.util.module_from_spec(spec)
sys.modules["wan_local"] = module
spec.loader.exec_module(module)
nodes = asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
print(time.perf_counter() - started, len(nodes))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    standin = ROOT / "tests" / "host" / "standin"
    code = CODE.format(standin=str(standin), init=str(ROOT / "__init__.py"), root=str(ROOT))
    seconds, nodes = [], ""
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        taken, nodes = done.stdout.split()
        seconds.append(float(taken))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"import of the pack with {nodes} nodes: median {statistics.median(seconds) * 1000:.0f} ms, "
        f"{min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f}; load {load}"
    )


if __name__ == "__main__":
    main()
