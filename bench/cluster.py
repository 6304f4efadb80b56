"""What a Ray cluster costs a job: the same jobs by one process and by 1, 2 and 4 workers.

Starts `python -m wan serve` with the tiny models, once with its own process and once for each number
of workers over a cluster on this machine, sends tiny jobs through the API, all at once, and prints
seconds in all and milliseconds a job beside those of one process. A first job for each worker loads
the models and is not counted. On a machine with few cores more workers are no faster: then what is
seen is that they cost nothing. The machine's load is printed; nothing is judged.

    python -m bench.cluster [--jobs 100] [--workers 1 2 4] [--rounds 2] [--json FILE]

`python -m bench.simulation` has what a small machine cannot show: a thousand GPUs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.measure import load

ROOT = Path(__file__).resolve().parents[1]
KEY = "inf_of_this_bench"
HEADERS = {"Authorization": f"Bearer {KEY}"}
TINY = {
    "prompt": "a red ball rolls",
    "size": "64x64",
    "num_frames": 5,
    "num_inference_steps": 2,
    "tea_cache": 0,
}
COMPLETED = 10


@dataclass(frozen=True)
class Found:
    """One way, one round."""

    way: str
    workers: int
    seconds: float
    """From the first request to the last result."""
    jobs: int

    @property
    def milliseconds(self) -> float:
        """A job."""
        return 1000 * self.seconds / self.jobs


@contextmanager
def serving(data: Path, more: Sequence[str] = ()) -> Iterator[str]:
    """A server; its address."""
    command = [sys.executable, "-m", "wan", "serve", "--models", "tiny", "--port", "0"]
    command += ["--data", str(data), *more]
    environment = {**os.environ, "WAN_LOCAL_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait(timeout=60)


def ask(method: str, address: str, **options: object) -> dict:
    """What an answer's envelope holds."""
    answer = requests.request(method, address, headers=HEADERS, timeout=60, **options)
    assert answer.ok, answer.text
    return answer.json()["data"]


def upload(base: str) -> str:
    """The sample picture; its address."""
    picture = (ROOT / "assets" / "sample.png").read_bytes()
    files = {"files": [{"filename": "a.png", "size": len(picture)}]}
    [made] = ask("POST", f"{base}/files", json=files)
    assert requests.put(made["upload_url"], data=picture, timeout=60).ok
    return made["uri"]


def run_jobs(base: str, count: int) -> float:
    """Seconds that so many jobs take, all sent at once."""
    picture = upload(base)
    began, ids = time.perf_counter(), []
    for seed in range(count):
        body = {"app": "infsh/wan2-1-i2v", "input": {**TINY, "seed": seed, "input_image": picture}}
        ids.append(ask("POST", f"{base}/apps/run", json=body)["id"])
    waiting = set(ids)
    while waiting:
        time.sleep(0.05)
        found = ask("POST", f"{base}/tasks/list", json={"limit": 200})["items"]
        ended = {task["id"]: task for task in found if task["status"] >= COMPLETED}
        for task_id in waiting & ended.keys():
            assert ended[task_id]["status"] == COMPLETED, ended[task_id]["error"]
        waiting -= ended.keys()
    return time.perf_counter() - began


def measure(workers: int, jobs: int) -> Found:
    """One server, warm, then timed; 0 workers: its own process."""
    more: list[str] = []
    if workers:
        share = (os.cpu_count() or 1) / workers
        more = ["--executor", "ray", "--address", "local", "--workers", str(workers)]
        more += ["--cpus-per-job", f"{min(1.0, share):g}"]
    way = f"{workers} workers" if workers else "one process"
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), more) as base:
        run_jobs(base, 4 * max(1, workers))  # every worker has loaded its models
        return Found(way, workers, run_jobs(base, jobs), jobs)


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before, found = load(), list[Found]()
    for _ in range(options.rounds):
        for workers in (0, *options.workers):
            found.append(measure(workers, options.jobs))
            print(f"{found[-1].way}: {found[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    print(
        f"{before} at the start, {load()} at the end; {options.jobs} jobs, {options.rounds} rounds\n"
    )
    print(
        "| way | seconds | ms a job | beside one process | ms a job more |\n|---|---|---|---|---|"
    )
    alone = [one for one in found if not one.workers]
    for workers in (0, *options.workers):
        mine = [one for one in found if one.workers == workers]
        pairs = list(zip(mine, alone, strict=True))
        ratio = statistics.median(a.seconds / b.seconds for a, b in pairs)
        extra = statistics.median(a.milliseconds - b.milliseconds for a, b in pairs)
        seconds = statistics.median(one.seconds for one in mine)
        each = statistics.median(one.milliseconds for one in mine)
        print(f"| {mine[0].way} | {seconds:.1f} | {each:.0f} | {ratio:.2f} | {extra:+.0f} |")
    if options.json:
        told = {"load": [before, load()], "rounds": [asdict(one) for one in found]}
        options.json.write_text(json.dumps(told, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main()
