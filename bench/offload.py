"""A5: blocks streamed through a ring of two, counted: what is moved, and that nothing comes back."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from bench import gpu, gpu_models
from bench.measure import Figure
from wan.residency import DevicePlacement, Part


def rows(folder: Path) -> Iterator[Figure]:
    """Bytes moved in a step with guidance, as parts of the blocks' weights."""
    bench = gpu.Bench(argparse.Namespace(small=True, json=None, budget=60))
    model = gpu_models.random_transformer(bench)
    weights = sum(values.nbytes for values in model.blocks.parameters())
    for name, joint, goal in (("joint pass", True, 1), ("two passes", False, 2)):
        part = Part("x", lambda: model, DevicePlacement(bench.device, "blocks"), stack="blocks")
        with part.on_device() as module:
            work = gpu_models.step(bench, module, joint)
            work()
            ring = part._source.owned._ring
            before = ring.moved_bytes
            work()
            moved = (ring.moved_bytes - before) / weights
        part.release()
        yield Figure("A5", f"streamed step, {name}: moved", moved, "x the blocks", goal)
