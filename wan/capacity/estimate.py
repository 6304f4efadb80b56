"""The whole answer: each kind of GPU, what they do together, and how many are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .figures import Figure, modelled
from .fit import Fit, choose_fit, too_large
from .fleet import Demand, late_share, mean_wait, servers_needed
from .gpus import Pool
from .host import SHIPPED, HostFigures
from .job import JobPlan
from .measurements import Measurements
from .parallel import check_ranks, way
from .rates import Rates, rates_of
from .times import Times, job_times
from .traffic import Traffic, job_traffic

HOUR = 3600.0


@dataclass(frozen=True)
class PoolAnswer:
    """One kind of GPU."""

    pool: Pool
    fit: Fit | None
    """None: the job does not fit there."""
    rates: Rates | None
    times: Times | None
    slots: int
    """Jobs that run at the same time."""

    @property
    def jobs_per_hour(self) -> Figure:
        """Of the whole pool, if it never waits for jobs."""
        if self.times is None:
            return modelled(0.0, "jobs/h", "does not fit")
        each = HOUR / self.times.job.value
        return modelled(self.slots * each, "jobs/h", f"{self.slots} at a time, always busy")


@dataclass(frozen=True)
class DemandAnswer:
    """What a wanted rate takes."""

    demand: Demand
    used: float
    """Share of the time that GPUs work; above 1 the queue grows without end."""
    wait: float
    """Seconds on average."""
    late: float
    """Share of the jobs that begin later than wanted."""
    needed: dict[str, int]
    """GPUs by kind, if all were of it."""


@dataclass(frozen=True)
class Answer:
    """Everything."""

    plan: JobPlan
    ranks: int
    pools: tuple[PoolAnswer, ...]
    traffic: Traffic
    demand: DemandAnswer | None

    @property
    def jobs_per_hour(self) -> float:
        """Of all pools."""
        return sum(answer.jobs_per_hour.value for answer in self.pools)


def estimate(
    plan: JobPlan,
    pools: Sequence[Pool],
    ranks: int = 1,
    precision: str = "auto",
    disk: float = 2.0,
    measurements: Sequence[Measurements] = (),
    demand: Demand | None = None,
    host: HostFigures = SHIPPED,
) -> Answer:
    """Put everything together.

    Args:
        plan: the job.
        pools: GPUs by kind.
        ranks: GPUs that share one job.
        precision: of the weights, "auto", "bf16" or "fp8".
        disk: GB/s at which weights are read.
        measurements: of kinds of GPUs; the last one of a kind counts.
        demand: a rate of jobs that is wanted.
        host: what the workers' processors take for frames.
    Raises:
        OutOfVramError: the job fits on none of the kinds.
        InputError: more GPUs a job than any pool has, or measurements of a kind that is in none.
    """
    check_ranks(ranks, plan.shape.tokens)
    if all(pool.count < ranks for pool in pools):
        raise InputError(
            what=f"--gpus-per-job is {ranks}, and no kind has so many GPUs.",
            why="The GPUs of one job are of one kind and in one machine.",
            fix=f"Use {max(pool.count for pool in pools)} or less.",
        )
    _check_used(measurements, pools)
    answers = [_answer(plan, pool, ranks, precision, disk, measurements, host) for pool in pools]
    if not any(answer.fit for answer in answers):
        raise too_large(plan, [pool.kind for pool in pools], precision, ranks)
    wanted = _demand(demand, answers, ranks) if demand else None
    return Answer(plan, ranks, tuple(answers), job_traffic(plan), wanted)


def _answer(
    plan: JobPlan,
    pool: Pool,
    ranks: int,
    precision: str,
    disk: float,
    measurements: Sequence[Measurements],
    host: HostFigures,
) -> PoolAnswer:
    fit = choose_fit(plan, pool.kind, precision, ranks)
    slots = pool.count // ranks
    if fit is None or slots == 0:
        return PoolAnswer(pool, fit, None, None, 0)
    found = [one for one in measurements if one.is_of(pool.kind)]
    rates = rates_of(pool.kind, found[-1] if found else None, plan.shape.tokens)
    times = job_times(plan, fit, rates, ranks, disk, host)
    return PoolAnswer(pool, fit, rates, times, slots)


def _demand(demand: Demand, answers: Sequence[PoolAnswer], ranks: int) -> DemandAnswer:
    able = [answer for answer in answers if answer.times is not None]
    slots = sum(answer.slots for answer in able)
    rate = sum(answer.jobs_per_hour.value for answer in able)
    service = slots * HOUR / rate
    needed = {
        answer.pool.kind.name: ranks * servers_needed(demand, answer.times.job.value)
        for answer in able
        if answer.times is not None
    }
    return DemandAnswer(
        demand,
        demand.jobs_per_hour / rate,
        mean_wait(slots, demand, service),
        late_share(slots, demand, service),
        needed,
    )


def _check_used(measurements: Sequence[Measurements], pools: Sequence[Pool]) -> None:
    for found in measurements:
        if not any(found.is_of(pool.kind) for pool in pools):
            raise InputError(
                what=f"--bench {found.source} was measured on {found.device or 'an unnamed device'}.",
                why="None of the kinds of --gpus is that one, so it would have no effect.",
                fix="Name that kind in --gpus, or leave the file out.",
            )


def describe_ranks(ranks: int) -> str:
    """How the GPUs of a job share it, in words; empty for one."""
    return f", {ranks} GPUs a job ({way(ranks)} context parallel)" if ranks > 1 else ""
