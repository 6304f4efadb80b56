"""What a Ray cluster costs a job: the same jobs by one process and by 1, 2 and 4 workers.

For each number of workers it starts `python -m wan serve` with the tiny models twice, over a process
of its own and over a cluster on this machine, and sends both the same tiny jobs in turns, all of a
turn at once: machines like these are faster in one minute than in the next. It prints seconds of a
turn, milliseconds a job, and the medians of what the cluster takes beside the one process of its own
turn. A first job for each worker loads the models and is not counted. On a machine with few cores
more workers are hardly faster: then what is seen is that they cost nothing. The machine's load is
printed; nothing is judged.

    python -m bench.cluster [--jobs 100] [--workers 1 2 4] [--rounds 3] [--steps 2] [--json FILE]

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
    "tea_cache": 0,
}
COMPLETED = 10


@dataclass(frozen=True)
class Turn:
    """The same jobs by one process and by a cluster, one after the other. Seconds are from the first
    request to the last result."""

    workers: int
    jobs: int
    alone: float
    cluster: float

    @property
    def ratio(self) -> float:
        """Below 1: the cluster is faster."""
        return self.cluster / self.alone

    @property
    def more(self) -> float:
        """Milliseconds that a job takes longer over the cluster."""
        return 1000 * (self.cluster - self.alone) / self.jobs


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


def run_jobs(base: str, count: int, steps: int) -> float:
    """Seconds that so many jobs take, all sent at once."""
    picture = upload(base)
    values = {**TINY, "num_inference_steps": steps, "input_image": picture}
    began, ids = time.perf_counter(), []
    for seed in range(count):
        body = {"app": "infsh/wan2-1-i2v", "input": {**values, "seed": seed}}
        ids.append(ask("POST", f"{base}/apps/run", json=body)["id"])
    for task_id in ids:  # few questions: the server is to work for the jobs
        while (task := ask("GET", f"{base}/tasks/{task_id}"))["status"] < COMPLETED:
            time.sleep(0.05)
        assert task["status"] == COMPLETED, task["error"]
    return time.perf_counter() - began


def measure(workers: int, jobs: int, rounds: int, steps: int) -> list[Turn]:
    """Turns of two servers that are warm."""
    share = min(1.0, (os.cpu_count() or 1) / workers)
    over = ["--executor", "ray", "--address", "local", "--workers", str(workers)]
    over += ["--cpus-per-job", f"{share:g}"]
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder, "alone")) as alone,
        serving(Path(folder, "cluster"), over) as cluster,
    ):
        run_jobs(alone, 4, steps)
        run_jobs(cluster, 4 * workers, steps)  # every worker has loaded its models
        for number in range(rounds):
            first = run_jobs(alone, jobs, steps)
            found.append(Turn(workers, jobs, first, run_jobs(cluster, jobs, steps)))
            said = f"{workers} workers, turn {number + 1} of {rounds}: {found[-1].ratio:.2f}"
            print(said, file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jobs", type=int, default=100, help="of a turn")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="of a job: how long it takes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    before, found = load(), list[Turn]()
    for workers in options.workers:
        found += measure(workers, options.jobs, options.rounds, options.steps)
    after = load()
    print(
        f"{before} at the start, {after} at the end; {options.rounds} turns of {options.jobs} ",
        end="",
    )
    print(f"jobs of {options.steps} steps\n")
    print("| workers | one process, ms a job | cluster, ms a job | ratio | ms a job more |")
    print("|---|---|---|---|---|")
    for workers in options.workers:
        mine = [turn for turn in found if turn.workers == workers]
        alone = statistics.median(1000 * turn.alone / turn.jobs for turn in mine)
        cluster = statistics.median(1000 * turn.cluster / turn.jobs for turn in mine)
        ratio = statistics.median(turn.ratio for turn in mine)
        more = statistics.median(turn.more for turn in mine)
        print(f"| {workers} | {alone:.0f} | {cluster:.0f} | {ratio:.2f} | {more:+.0f} |")
    if options.json:
        told = {"load": [before, after], "turns": [asdict(turn) for turn in found]}
        options.json.write_text(json.dumps(told, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main()
