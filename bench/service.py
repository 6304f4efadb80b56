"""How fast the service answers while a job runs, and how long its event loop is held up.

Starts `python -m wan serve` with the tiny models and a data folder of its own, and prints what
POST /apps/run takes while a job runs, what listing 20 of 1,000 stored tasks takes, and the longest
answer to a request that needs nothing, asked every 5 ms meanwhile: it waits as long as the loop is
blocked. The machine's load is printed; nothing is judged.

    python bench/service.py [--requests 40] [--tasks 1000]
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.cluster import HEADERS, serving, upload
from wan.service.records import Task
from wan.service.statuses import Status
from wan.service.store import Store


async def fill(data: Path, count: int) -> None:
    """Store ended tasks."""
    store = await Store.open(data / "service.db")
    for seed in range(count):
        values = {"prompt": "a cat turns its head", "seed": seed, "num_frames": 81}
        task = Task("infsh/wan2-1-i2v", "v1", values, status=Status.CANCELLED)
        await store.add_task(task)
    await store.close()


def timed(call: Callable[[], requests.Response]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    answer = call()
    assert answer.ok, answer.text
    return 1000 * (time.perf_counter() - start)


def ping(base: str, times: list[float], stop: threading.Event) -> None:
    """Ask for the smallest part of the page again and again."""
    session = requests.Session()
    while not stop.is_set():
        times.append(timed(lambda: session.get(f"{base}/snippets.js", timeout=30)))
        time.sleep(0.005)


def measure(base: str, count: int) -> dict[str, list[float]]:
    """Milliseconds by what was asked for."""
    session = requests.Session()
    session.headers.update(HEADERS)
    values = {"prompt": "a cat", "input_image": upload(base), "size": "96x96", "num_frames": 17}
    run = {"app": "infsh/wan2-1-i2v", "input": {**values, "num_inference_steps": 100}}
    first = session.post(f"{base}/apps/run", json=run, timeout=30).json()["data"]["id"]
    while session.get(f"{base}/tasks/{first}/status", timeout=30).json()["data"]["status"] < 7:
        time.sleep(0.1)
    found: dict[str, list[float]] = {"ping": []}
    stop = threading.Event()
    pinger = threading.Thread(target=ping, args=(base, found["ping"], stop))
    pinger.start()
    found["POST /apps/run"] = [
        timed(lambda: session.post(f"{base}/apps/run", json=run, timeout=30)) for _ in range(count)
    ]
    found["POST /tasks/list"] = [
        timed(lambda: session.post(f"{base}/tasks/list", json={"limit": 20}, timeout=30))
        for _ in range(count)
    ]
    large = {"files": [{"filename": "a.bin", "size": 50_000_000}]}
    big = session.post(f"{base}/files", json=large, timeout=30).json()["data"][0]["upload_url"]
    found["PUT of 50 MB"] = [timed(lambda: requests.put(big, data=bytes(50_000_000), timeout=60))]
    stop.set()
    pinger.join()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(fill(Path(folder), options.tasks))
        with serving(Path(folder)) as base:
            load = os.getloadavg()[0]
            found = measure(base, options.requests)
    print(f"{options.tasks} stored tasks, load {load:.1f} on {os.cpu_count()} cores\n")
    print("| request | median ms | longest ms |\n|---|---|---|")
    for name, times in found.items():
        print(f"| {name} | {statistics.median(times):.1f} | {max(times):.1f} |")


if __name__ == "__main__":
    main()
