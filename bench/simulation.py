"""10,000 jobs over 1,000 GPUs: how busy they are, who waits how long, and what crashes cost.

    python -m bench.simulation [--gpu h100] [--bench gpu.json] [--jobs 10000] [--json FILE]

The rules are the cluster's own (`bench/rules.py`), the times those of `python -m wan capacity`:
modelled, or measured where `--bench` brings figures. The same seed gives the same tables. Nothing of
Ray runs here: what placing a job costs is in `bench/cluster.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.rules import (
    PLAIN,
    Rules,
    Task,
    real_rules,
    without_affinity,
    without_fairness,
)
from bench.shares import jain
from bench.simulate import Faults, Outcome, Site, simulate

I2V, ANIMATE = "infsh/wan2-1-i2v", "infsh/wan-2-2-animate-v2v"
LORA_SECONDS = 4.0
"""To patch a LoRA into weights that are there; assumed."""
SHARES = [40.0, 20.0, *[4.0] * 8, *[0.8] * 9, 0.4]
"""Of the jobs, by key: two large ones, eight of medium size, nine small ones, a light one."""
GROUPS = {"large": [0, 1], "medium": range(2, 10), "small": range(10, 19), "light": [19]}
BURSTY = (0, 1)
"""Keys that send their jobs all at once, some times a run."""
BURSTS = 5
URGENT_SHARE, URGENT = 0.03, 5
LORA_SHARE, LORAS = 0.3, 8
SPREAD = 0.1
"""Jobs of one kind take up to so much more or less."""
FAULTS = Faults(worker_between=20 * 3600, node_between=50 * 3600)
_KINDS = (
    (I2V, 0.5, {}),
    (I2V, 0.1, {"tea_cache": 0}),
    (I2V, 0.2, {"size": "1280x720"}),
    (ANIMATE, 0.05, {"seconds": 5}),
    (ANIMATE, 0.15, {"seconds": 10}),
)


@dataclass(frozen=True)
class Kind:
    """Jobs of one kind."""

    app: str
    share: float
    seconds: float
    pieces: int


def job_kinds(gpu: str, bench: Path | None = None) -> tuple[list[Kind], Site, str]:
    """Kinds of jobs with the times of one kind of GPU, what loading takes there, and whether times
    were measured.

    Raises:
        WanError: an unknown GPU, or a file without figures of it.
    """
    from wan.capacity.estimate import estimate
    from wan.capacity.gpus import parse_pools
    from wan.capacity.job import plan_job
    from wan.capacity.measurements import Measurements, read_measurements

    read = [read_measurements(bench)] if bench else []
    found = [one for one in read if isinstance(one, Measurements)]
    kinds, load, origin = list[Kind](), 0.0, set[str]()
    for app, share, given in _KINDS:
        values = dict(given)
        plan = plan_job(app, values, values.pop("seconds", None))
        answer = estimate(plan, parse_pools(gpu), measurements=found).pools[0]
        assert answer.times is not None
        kinds.append(Kind(app, share, answer.times.job.value, plan.clips))
        load = max(load, answer.times.load.value)
        origin.add(answer.times.step.origin.value)
    return kinds, Site(1, load_model=load, load_lora=LORA_SECONDS), " and ".join(sorted(origin))


def draw_tasks(
    kinds: Sequence[Kind], count: int, workers: int, load: float, is_bursty: bool, seed: int
) -> list[Task]:
    """Jobs in the order in which they arrive.

    Args:
        load: arriving work, of what the workers can do.
        is_bursty: the large keys send theirs in bursts; all others come at random (Poisson).
    """
    source = random.Random(seed)
    mean = sum(kind.share * kind.seconds for kind in kinds)
    rate = load * workers / mean
    moment, drawn = 0.0, []
    for _ in range(count):
        moment += source.expovariate(rate)
        drawn.append(moment)
    bursts = {key: [source.uniform(0, moment) for _ in range(BURSTS)] for key in BURSTY}
    tasks = []
    for number, arrival in enumerate(drawn):
        key = source.choices(range(len(SHARES)), SHARES)[0]
        kind = source.choices(kinds, [kind.share for kind in kinds])[0]
        has_lora = kind.app == I2V and source.random() < LORA_SHARE
        if is_bursty and key in BURSTY:
            arrival = source.choice(bursts[key])
        tasks.append(
            Task(
                task_id=f"t{number:05}",
                app=kind.app,
                key_id=f"key{key:02}",
                priority=URGENT if source.random() < URGENT_SHARE else 0,
                values={"lora_file": f"lora{source.randrange(LORAS)}"} if has_lora else {},
                arrival=arrival,
                service=kind.seconds * source.uniform(1 - SPREAD, 1 + SPREAD),
                pieces=kind.pieces,
            )
        )
    return sorted(tasks, key=lambda task: task.arrival)


@dataclass(frozen=True)
class Summary:
    """A run in numbers. Times in seconds."""

    name: str
    utilisation: float
    """Of the workers, until the last arrival."""
    queue_mean: float
    queue_most: int
    waits: dict[str, tuple[float, float, float]]
    """By group of keys, and "all" and "urgent": the median, 95 and 99 of 100."""
    mean_waits: dict[str, float]
    jain: float
    """Over keys of what each had of its fair share while somebody waited: 1 = all alike."""
    least_share: float
    """Of the key that had least of its fair share."""
    failed: int
    """Jobs that used up their attempts."""
    unaccounted: int
    """Jobs that never ended: 0."""
    doubled: int
    """Jobs that ended twice: 0."""
    crashes: int
    interrupted: int
    extra_work: float
    """Work that was done again or for nothing, of what was asked for."""
    cold_loads: int
    lora_loads: int
    loading: float
    """Hours of GPUs."""


def summarise(name: str, outcome: Outcome) -> Summary:
    """Add up a run."""
    records, span = outcome.records, max(outcome.last_arrival, 1e-9)
    groups = {
        group: [r for r in records if int(r.task.key_id[3:]) in keys]
        for group, keys in GROUPS.items()
    }
    groups |= {"urgent": [r for r in records if r.task.priority], "all": records}
    shares = list(outcome.satisfaction.values())
    return Summary(
        name=name,
        utilisation=outcome.busy_by_then / (span * outcome.site.workers),
        queue_mean=outcome.queue_time / span,
        queue_most=outcome.longest_queue,
        waits={group: percentiles([r.wait for r in rs]) for group, rs in groups.items() if rs},
        mean_waits={group: fmean(r.wait for r in rs) for group, rs in groups.items() if rs},
        jain=jain(shares) if shares else 1.0,
        least_share=min(shares, default=1.0),
        failed=sum(r.has_failed for r in records),
        unaccounted=sum(r.ended is None for r in records),
        doubled=outcome.doubled,
        crashes=outcome.worker_crashes + outcome.node_crashes,
        interrupted=outcome.interrupted,
        extra_work=outcome.lost / sum(r.task.service for r in records),
        cold_loads=outcome.cold_loads,
        lora_loads=outcome.lora_loads,
        loading=outcome.loading / 3600,
    )


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """What 50, 95 and 99 of 100 do not exceed."""
    ordered = sorted(values)
    return tuple(ordered[min(len(ordered) - 1, int(len(ordered) * p))] for p in (0.5, 0.95, 0.99))  # type: ignore[return-value]


@dataclass(frozen=True)
class Scenario:
    """One run of the comparison."""

    name: str
    is_bursty: bool
    load: float
    rules: Rules
    faults: Faults | None = None
    keeps_clips: bool = True
    """Whether finished clips outlive a worker."""


def scenarios(rules: Rules) -> Iterator[Scenario]:
    """What is compared."""
    fifo, anywhere = without_fairness(rules), without_affinity(rules)
    yield Scenario("steady, 70 %", False, 0.7, rules)
    yield Scenario("steady, 70 %, any free worker", False, 0.7, anywhere)
    yield Scenario("steady, 90 %", False, 0.9, rules)
    yield Scenario("steady, 90 %, any free worker", False, 0.9, anywhere)
    yield Scenario("steady, 120 %", False, 1.2, rules)
    yield Scenario("steady, 120 %, arrival order", False, 1.2, fifo)
    yield Scenario("bursts, 90 %", True, 0.9, rules)
    yield Scenario("bursts, 90 %, arrival order", True, 0.9, fifo)
    yield Scenario("bursts, 90 %, any free worker", True, 0.9, anywhere)
    yield Scenario("bursts, 90 %, crashes", True, 0.9, rules, FAULTS)
    yield Scenario("bursts, 90 %, crashes, no clips kept", True, 0.9, rules, FAULTS, False)


def run_all(kinds: Sequence[Kind], site: Site, rules: Rules, jobs: int, seed: int) -> list[Summary]:
    """Every scenario, each on the same jobs as its neighbours."""
    found = []
    for one in scenarios(rules):
        tasks = draw_tasks(kinds, jobs, site.workers, one.load, one.is_bursty, seed)
        if not one.keeps_clips:
            tasks = [replace(task, pieces=1) for task in tasks]
        outcome = simulate(site, one.rules, tasks, one.faults, seed)
        found.append(summarise(one.name, outcome))
    return found


def tables(found: Sequence[Summary]) -> Iterator[str]:
    """Markdown."""
    yield "| run | GPUs busy | queue mean, most | waiting s p50, p95, p99 | urgent p95 | Jain, least share | models loaded, LoRAs | GPU hours of loading |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in found:
        waits = ", ".join(f"{value:.0f}" for value in one.waits["all"])
        urgent = one.waits.get("urgent", (0.0, 0.0, 0.0))[1]
        yield (
            f"| {one.name} | {one.utilisation:.1%} | {one.queue_mean:.0f}, {one.queue_most} | {waits} | "
            f"{urgent:.0f} | {one.jain:.3f}, {one.least_share:.2f} | {one.cold_loads}, {one.lora_loads} | {one.loading:.1f} |"
        )
    yield "\n| keys, waiting s mean; p50, p95, p99 | " + " | ".join(GROUPS) + " |"
    yield "|---" * (len(GROUPS) + 1) + "|"
    for one in found:
        cells = []
        for group in GROUPS:
            values = ", ".join(f"{v:.0f}" for v in one.waits.get(group, ()))
            cells.append(f"{one.mean_waits.get(group, 0):.0f}; {values}")
        yield f"| {one.name} | {' | '.join(cells)} |"
    yield "\n| run | crashes | attempts interrupted | jobs lost without a word | ended twice | out of attempts | extra work |"
    yield "|---|---|---|---|---|---|---|"
    for one in found:
        if one.crashes:
            yield (
                f"| {one.name} | {one.crashes} | {one.interrupted} | {one.unaccounted} | {one.doubled} | "
                f"{one.failed} | {one.extra_work:.2%} |"
            )


def compare(found: Sequence[Summary]) -> Iterator[str]:
    """What fairness and placement bring, in sentences."""
    by_name = {one.name: one for one in found}
    fair, plain = by_name["bursts, 90 %"], by_name["bursts, 90 %, arrival order"]
    if "light" in fair.mean_waits and plain.mean_waits["light"] > 0:
        ratio = fair.mean_waits["light"] / plain.mean_waits["light"]
        yield f"- The light key waits {ratio:.3f} of what it waits in arrival order."
    for name in ("steady, 70 %", "steady, 90 %", "bursts, 90 %"):
        near, any_free = by_name[name], by_name[f"{name}, any free worker"]
        yield (
            f"- {name}: {near.cold_loads} loads of models instead of {any_free.cold_loads} where jobs "
            f"go to any free worker, {any_free.loading - near.loading:.1f} GPU hours less."
        )


def main() -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", default="h100", help="kind of all GPUs (default %(default)s)")
    parser.add_argument("--bench", type=Path, help="figures of python -m bench.gpu --json")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    begin = time.perf_counter()
    kinds, one, origin = job_kinds(options.gpu, options.bench)
    site = Site(options.workers, one.per_node, one.load_model, one.load_lora)
    rules = real_rules()
    if rules is None:
        print("This version has no cluster: jobs go in arrival order to any free worker.")
        rules = PLAIN
    found = run_all(kinds, site, rules, options.jobs, options.seed)
    times = ", ".join(f"{kind.seconds:.0f}" for kind in kinds)
    print(
        f"{options.jobs:,} jobs over {site.workers:,} {options.gpu}; {rules.name}; jobs of {times} s "
        f"({origin}), {site.load_model:.0f} s to load; seed {options.seed}, "
        f"{time.perf_counter() - begin:.0f} s\n"
    )
    print("\n".join(tables(found)))
    print()
    print("\n".join(compare(found)))
    if options.json:
        told = {
            "gpu": options.gpu,
            "origin": origin,
            "rules": rules.name,
            "seed": options.seed,
            "workers": site.workers,
            "kinds": [asdict(kind) for kind in kinds],
            "runs": [asdict(one) for one in found],
        }
        options.json.write_text(json.dumps(told, indent=1) + "\n", "utf8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
