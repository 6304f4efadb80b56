"""The answer as text and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..pace import short_time
from ..residency import gigabytes
from .estimate import HOUR, Answer, DemandAnswer, PoolAnswer, describe_ranks
from .figures import Figure, counted, modelled
from .fleet import SHARE
from .parallel import way
from .published import DOUBT
from .work import forward_work

_MEMORY = "the estimates that a run goes by"
_CAUTION = (
    f"Modelled times were up to {DOUBT:.0%} from published ones that they were not made from; measure "
    "with python -m bench.gpu --json FILE and give --bench FILE."
)


def figures_of(answer: PoolAnswer) -> dict[str, Figure]:
    """The numbers of one kind of GPU by name; empty where the job does not fit."""
    fit, times = answer.fit, answer.times
    if fit is None or times is None or answer.rates is None:
        return {}
    found = {
        "memory needed": modelled(fit.needed / 1e9, "GB", f"{fit.how}: {_MEMORY}"),
        "memory there": modelled(fit.room / 1e9, "GB", _room(answer)),
        "pinned RAM": modelled(fit.host / 1e9, "GB", "blocks that are streamed; files are mapped"),
        "computed step": times.step,
    }
    if times.links.value:
        found["of it waiting for GPUs"] = times.links
    found |= {name: figure for name, figure in times.stages.items() if figure.value}
    each = modelled(HOUR / times.job.value, "jobs/h", "3600 s / a job")
    return found | {
        "a job, warm": times.job,
        "first job more": times.load,
        "jobs of each slot": each,
        "jobs of all": answer.jobs_per_hour,
    }


def _room(answer: PoolAnswer) -> str:
    kind = answer.pool.kind
    return f"of {kind.memory:g} GiB (nominal: {kind.source}), less what context and driver take"


def traffic_of(answer: Answer) -> dict[str, Figure]:
    """Storage and network, at the rate that is wanted or else at full load."""
    rate = answer.jobs_per_hour
    if answer.demand is not None:
        rate = min(rate, answer.demand.demand.jobs_per_hour)
    traffic = answer.traffic
    weights = max(a.fit.weights.on_disk for a in answer.pools if a.fit)
    through = traffic.through_storage
    return {
        "inputs of a job": _megabytes(traffic.inputs),
        "result of a job": _megabytes(traffic.result),
        "finished clips of a job": _megabytes(traffic.clips),
        "storage, read and written": modelled(
            through * rate / 1e9, "GB/h", f"{rate:.4g} jobs an hour"
        ),
        "network at storage": modelled(through * rate / HOUR * 8 / 1e6, "Mbit/s", "on average"),
        "disk of each worker": counted(weights / 1e9, "GB", "the files of the catalog"),
    }


def as_text(answer: Answer) -> Iterator[str]:
    """Lines for people."""
    plan = answer.plan
    forward = forward_work(plan.shape, plan.variant)
    clips = f"{plan.clips} clips of {plan.clip_frames}" if plan.clips > 1 else "1 clip"
    yield f"{plan.app}: {plan.width}x{plan.height}, {plan.frames} frames, {clips}{describe_ranks(answer.ranks)}"
    yield (
        f"{plan.shape.tokens:,} tokens, {forward.flops / 1e15:.3f} PFLOP a forward (counted), "
        f"{plan.branches} a step, {plan.computed} of {plan.steps} steps computed"
    )
    yield from (f"Assumed: {line}" for line in plan.assumed)
    for pool in answer.pools:
        yield ""
        yield from _pool_lines(pool, answer.ranks)
    yield f"\nAll together: {answer.jobs_per_hour:.4g} jobs an hour (modelled)"
    if answer.demand is not None:
        yield ""
        yield from _demand_lines(answer.demand)
    yield "\nStorage and network"
    yield from map(_line, traffic_of(answer).items())
    yield f"\n{_CAUTION}"


def _pool_lines(answer: PoolAnswer, ranks: int) -> Iterator[str]:
    title = f"{answer.pool.kind.name} x {answer.pool.count}"
    if answer.fit is None:
        yield f"{title}: the job does not fit"
        return
    if answer.times is None:
        yield f"{title}: fewer than the {ranks} GPUs of a job"
        return
    tile = answer.fit.tile_size
    pieces = f", VAE in tiles of {tile}" if tile else ""
    yield f"{title}: {answer.fit.precision} weights, {answer.fit.how}{pieces}"
    yield from map(_line, figures_of(answer).items())


def _line(item: tuple[str, Figure]) -> str:
    name, figure = item
    number = f"{figure.value:,.1f}" if figure.value >= 100 else f"{figure.value:.3g}"
    value = f"{number} {figure.unit}"
    return f"  {name:<26}{value:>15}  {figure.origin.value:<9} {figure.source}"


def _demand_lines(answer: DemandAnswer) -> Iterator[str]:
    demand = answer.demand
    yield (
        f"{demand.jobs_per_hour:g} jobs an hour, {SHARE:.0%} of them to begin within "
        f"{short_time(demand.wait)} (modelled: M/G/c, spread {demand.variation:g})"
    )
    if answer.used >= 1:
        yield (
            f"  These GPUs are too few: {answer.used:.2f} times their capacity, the queue grows."
        )
    else:
        yield (
            f"  These GPUs: {answer.used:.0%} busy, mean wait {short_time(answer.wait)}, "
            f"{1 - answer.late:.1%} begin in time"
        )
    for name, count in answer.needed.items():
        yield f"  {name} alone: {count} GPUs"


def as_json(answer: Answer) -> dict[str, Any]:
    """For other programs; every number with its origin."""
    plan = answer.plan
    forward = forward_work(plan.shape, plan.variant)
    told: dict[str, Any] = {
        "job": {
            "app": plan.app,
            "width": plan.width,
            "height": plan.height,
            "frames": plan.frames,
            "clips": plan.clips,
            "tokens": plan.shape.tokens,
            "steps": plan.steps,
            "computed_steps": plan.computed,
            "branches": plan.branches,
            "forward": counted(forward.flops, "FLOP", "shapes").as_json(),
        },
        "assumed": list(plan.assumed),
        "gpus_per_job": answer.ranks,
        "context_parallel": way(answer.ranks) if answer.ranks > 1 else None,
        "pools": [_pool_json(pool) for pool in answer.pools],
        "jobs_per_hour": modelled(answer.jobs_per_hour, "jobs/h", "all pools").as_json(),
        "traffic": {name: figure.as_json() for name, figure in traffic_of(answer).items()},
        "caution": _CAUTION,
    }
    if answer.demand is not None:
        told["demand"] = _demand_json(answer.demand)
    return told


def _pool_json(answer: PoolAnswer) -> dict[str, Any]:
    told: dict[str, Any] = {
        "gpu": answer.pool.kind.name,
        "count": answer.pool.count,
        "fits": answer.fit is not None,
        "slots": answer.slots,
    }
    if answer.fit is not None:
        told |= {
            "precision": answer.fit.precision,
            "placement": answer.fit.how,
            "vae_tile_size": answer.fit.tile_size,
        }
    told["figures"] = {name: figure.as_json() for name, figure in figures_of(answer).items()}
    if answer.rates is not None:
        names = ("linear", "attention", "memory", "link", "peer")
        told["rates"] = {name: getattr(answer.rates, name).as_json() for name in names}
    return told


def _demand_json(answer: DemandAnswer) -> dict[str, Any]:
    source = "M/G/c, Allen and Cunneen"
    wait = answer.wait if math.isfinite(answer.wait) else None
    return {
        "jobs_per_hour": answer.demand.jobs_per_hour,
        "wait": answer.demand.wait,
        "variation": answer.demand.variation,
        "used": modelled(answer.used, "of the time", "rate / capacity").as_json(),
        "mean_wait": None if wait is None else modelled(wait, "s", source).as_json(),
        "late": modelled(answer.late, "of the jobs", source).as_json(),
        "needed": {
            name: modelled(count, "GPUs", source).as_json() for name, count in answer.needed.items()
        },
    }


def _megabytes(figure: Figure) -> Figure:
    return Figure(figure.value / 1e6, "MB", figure.origin, figure.source)


def describe_kinds() -> Iterator[str]:
    """The table of known GPUs, as lines."""
    from .gpus import KINDS
    from .rates import compute_share

    yield f"{'name':<12}{'GiB':>5}{'bf16':>8}{'fp8':>8}{'GB/s':>7}{'host':>6}{'peer':>6}  {'reached':>8}  source"
    for kind in KINDS.values():
        fp8 = f"{kind.fp8:g}" if kind.fp8 else "-"
        share, _ = compute_share(kind)
        yield (
            f"{kind.name:<12}{kind.memory:>5g}{kind.bf16:>8g}{fp8:>8}{kind.bandwidth:>7g}"
            f"{kind.link:>6g}{kind.peer:>6g}  {share:>8.0%}  {kind.source}"
        )
    yield "All nominal, dense TFLOP/s; 'reached' is modelled from published times."
    yield f"For example {gigabytes(KINDS['h100'].room)} of an h100 can be used."
