"""Timing of ours and a peer in turns, so that a machine's other work hits both alike."""

import ctypes
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import torch

STATUS = Path("/proc/self/status")
_LEAST_REPEATS = 2


@dataclass(frozen=True)
class Row:
    """One thing to measure."""

    name: str
    ours: Callable[[], object]
    peer: Callable[[], object] | None = None
    peer_name: str = ""
    frames: int = 1
    """How many frames a call works on; times are given per frame."""
    goal: float | None = None
    """At most this ratio to the peer, or without a peer this many milliseconds a frame."""
    threads: tuple[int, ...] = (1,)
    id: str = ""
    """Of the row in the list of rows, "A6"."""


@dataclass(frozen=True)
class Figure:
    """Something that is counted, or was measured elsewhere: it is the same on every machine, or
    said to be of this one."""

    id: str
    name: str
    value: float
    unit: str
    goal: float | None = None
    """At most."""
    peer_name: str = ""
    peer: float | None = None


@dataclass(frozen=True)
class Result:
    """Medians in milliseconds a frame, wall and processor time, ratios of neighbouring runs."""

    name: str
    threads: int
    wall: float
    cpu: float
    peer_name: str = ""
    peer_wall: float | None = None
    peer_cpu: float | None = None
    wall_ratio: float | None = None
    cpu_ratio: float | None = None
    goal: float | None = None
    peak_bytes: int | None = None
    """Peak growth of the process, where the system tells it."""
    result_bytes: int | None = None
    peer_peak_bytes: int | None = None
    id: str = ""
    repeats: int = 0
    """How many runs the medians are of."""


def rows_of(
    id: str,
    task: str,
    ways: dict[str, Callable[[], object]],
    frames: int,
    goals: dict[str, float],
    threads: tuple[int, ...] = (1,),
) -> Iterator[Row]:
    """Ways to do something as rows: the first is the peer of the others.

    Args:
        goals: by a way's name.
    """
    (peer_name, peer), *others = ways.items()
    for name, ours in others:
        told = f"{task}: {name}"
        yield Row(told, ours, peer, peer_name, frames, goals.get(name), threads, id)


def measure(row: Row, repeats: int, most: float = math.inf) -> list[Result]:
    """Time a row, once per number of threads: peer, ours, peer, ours, ...

    Args:
        repeats: how often.
        most: seconds for one number of threads, behind which nothing is repeated any more; two
            runs of each there are anyway.
    """
    results = []
    for threads in row.threads:
        with limited_to(threads):
            results.append(_measure(row, repeats, threads, most))
    return results


def _measure(row: Row, repeats: int, threads: int, most: float) -> Result:
    end = time.perf_counter() + most
    ours, peers = [], []
    peak, size = _peak_of(row.ours)  # and warms up
    peer_peak = _peak_of(row.peer)[0] if row.peer else None
    for number in range(repeats):
        if number >= _LEAST_REPEATS and time.perf_counter() > end:
            break
        if row.peer:
            peers.append(_time(row.peer, row.frames))
        ours.append(_time(row.ours, row.frames))
    wall, cpu = (statistics.median(part) for part in zip(*ours, strict=True))
    result = Result(
        row.name,
        threads,
        wall,
        cpu,
        goal=row.goal,
        peak_bytes=peak,
        result_bytes=size,
        peer_peak_bytes=peer_peak,
        id=row.id,
        repeats=len(ours),
    )
    if not row.peer:
        return result
    peer_wall, peer_cpu = (statistics.median(part) for part in zip(*peers, strict=True))
    pairs = list(zip(ours, peers, strict=True))
    ratios = {
        f"{kind}_ratio": statistics.median(mine[place] / theirs[place] for mine, theirs in pairs)
        for place, kind in enumerate(("wall", "cpu"))
    }
    given = {**asdict(result), "peer_name": row.peer_name, **ratios}
    return Result(**{**given, "peer_wall": peer_wall, "peer_cpu": peer_cpu})


def _time(call: Callable[[], object], frames: int) -> tuple[float, float]:
    _trimmed_memory()  # both begin with memory that is new to them, as the first run does
    wall, cpu = time.perf_counter(), time.process_time()
    kept = call()  # freeing it is not part of the time
    taken = time.perf_counter() - wall, time.process_time() - cpu
    del kept
    return taken[0] * 1000 / frames, max(taken[1] * 1000 / frames, 1e-9)


def _peak_of(call: Callable[[], object]) -> tuple[int | None, int | None]:
    """Peak growth of the process and size of the result, in bytes, where Linux tells them."""
    before = _trimmed_memory()
    if before is None:
        call()
        return None, None
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    size = getattr(call(), "nbytes", None)
    return _memory("VmHWM") - before, size


def _trimmed_memory() -> int | None:
    """What the process holds after freed memory was given back, so that its use is counted anew."""
    with suppress(OSError, AttributeError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    return _memory("VmRSS")


def _memory(name: str) -> int | None:
    """Bytes of a line of the process' status."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Torch, OpenCV and, where the system can, everything else (PyAV's codecs) on some cores."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if cores:
        os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        if cores:
            os.sched_setaffinity(0, cores)


def load() -> str:
    """The machine's load, since it decides how much a time means."""
    averages = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"load {averages} on {os.cpu_count()} cores"


def print_table(results: list[Result]) -> None:
    """A Markdown table."""
    print(
        "| what | threads | ms a frame (processor) | peer | ratio (processor) | goal | peak memory |"
    )
    print("|---|---|---|---|---|---|---|")
    for one in results:
        name = f"{one.id} {one.name}".strip()
        cells = [name, str(one.threads), f"{one.wall:.2f} ({one.cpu:.2f})", "", "", "", ""]
        if one.peer_wall is not None:
            cells[3] = f"{one.peer_name}: {one.peer_wall:.2f} ({one.peer_cpu:.2f})"
            cells[4] = f"{one.wall_ratio:.3f} ({one.cpu_ratio:.3f})"
        if one.goal is not None:
            cells[5] = f"{one.goal:g}" + ("" if one.peer_wall is not None else " ms")
        if one.peak_bytes is not None:
            times = (
                f" = {one.peak_bytes / one.result_bytes:.2f}x result" if one.result_bytes else ""
            )
            cells[6] = f"{one.peak_bytes / 1e6:.0f} MB{times}"
            if one.peer_peak_bytes is not None:
                cells[6] += f", peer {one.peer_peak_bytes / 1e6:.0f} MB"
        print(f"| {' | '.join(cells)} |")


def print_figures(figures: list[Figure]) -> None:
    """A Markdown table."""
    print("| what | ours | peer | goal |\n|---|---|---|---|")
    for one in figures:
        peer = f"{one.peer_name}: {one.peer:.4g}" if one.peer is not None else ""
        goal = f"{one.goal:g}" if one.goal is not None else ""
        print(f"| {one.id} {one.name} | {one.value:.4g} {one.unit} | {peer} | {goal} |")


def write_json(path: str, results: list[Result], machine: str) -> None:
    """All numbers for other programs."""
    rows = [asdict(result) for result in results]
    Path(path).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1), "utf8")
