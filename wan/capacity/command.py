"""`python -m wan capacity`: what a job takes on which GPUs, and how many a load needs."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from ..errors import InputError
from ..params import APPS
from .gpus import PRECISIONS

USUAL_WAIT, USUAL_VARIATION, USUAL_DISK = 60.0, 0.5, 2.0


def add_capacity(commands: argparse._SubParsersAction) -> None:
    """Make the command known."""
    parser = commands.add_parser(
        "capacity",
        help="what a job takes on which GPUs, and how many a load needs",
        description="Estimates memory, seconds and traffic of a job from its parameters and kinds "
        "of GPUs. Nothing is run or loaded; each number says whether it is measured, counted, "
        "modelled or nominal.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--gpus", metavar="KIND:N,...", help="for example h100:8,rtx4090:4")
    what.add_argument("--list-gpus", action="store_true", help="the kinds that are known")
    parser.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="NAME=GIB,TFLOPS,GBS[,HOST[,PEER]]",
        help="another kind: memory, dense bfloat16 rate, memory bandwidth, GB/s from the host "
        "and between GPUs; repeat for each one",
    )
    parser.add_argument(
        "--job", default=next(iter(APPS)), metavar="APP", help="default %(default)s"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the app; what is left out has its default",
    )
    parser.add_argument(
        "--driving-seconds",
        type=float,
        metavar="S",
        help="length of the driving video, where driving_video is not given (default 10)",
    )
    _add_hardware(parser)
    _add_demand(parser)
    parser.add_argument("--json", action="store_true", help="for other programs")
    parser.set_defaults(command=run_capacity)


def _add_hardware(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("auto", *PRECISIONS), default="auto", help="of the weights"
    )
    parser.add_argument(
        "--gpus-per-job", type=int, default=1, metavar="N", help="GPUs that share one video"
    )
    parser.add_argument(
        "--disk",
        type=float,
        default=USUAL_DISK,
        metavar="GBS",
        help="at which weights are read (default %(default)s)",
    )
    parser.add_argument(
        "--bench",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="figures of python -m bench.gpu --json FILE, one for each kind, and of a worker's "
        "processor of python -m bench --json FILE; repeat for each one",
    )


def _add_demand(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs-per-hour", type=float, metavar="X", help="a rate that is wanted")
    parser.add_argument(
        "--wait",
        type=float,
        metavar="S",
        help=f"95 of 100 jobs shall begin within this (default {USUAL_WAIT:g})",
    )
    parser.add_argument(
        "--variation",
        type=float,
        metavar="V",
        help="standard deviation of the jobs' times, of their mean; 0: all alike "
        f"(default {USUAL_VARIATION:g})",
    )


def run_capacity(options: argparse.Namespace) -> int:
    """The command.

    Returns:
        0.
    Raises:
        InputError, ValidationError, OutOfVramError: with what, why and fix.
    """
    from ..cli import read_inputs
    from .estimate import estimate
    from .fleet import Demand
    from .gpus import parse_kind, parse_pools
    from .host import SHIPPED, HostFigures
    from .job import plan_job
    from .measurements import Measurements, read_measurements
    from .report import as_json, as_text, describe_kinds

    if options.list_gpus:
        print("\n".join(describe_kinds()))
        return 0
    _check(options)
    pools = parse_pools(options.gpus, [parse_kind(text) for text in options.gpu])
    plan = plan_job(options.job, read_inputs(options.input), options.driving_seconds)
    demand = None
    if options.jobs_per_hour is not None:
        wait = USUAL_WAIT if options.wait is None else options.wait
        variation = USUAL_VARIATION if options.variation is None else options.variation
        demand = Demand(options.jobs_per_hour, wait, variation)
    found = [read_measurements(path) for path in options.bench]
    hosts = [one for one in found if isinstance(one, HostFigures)]
    answer = estimate(
        plan,
        pools,
        options.gpus_per_job,
        options.precision,
        options.disk,
        [one for one in found if isinstance(one, Measurements)],
        demand,
        hosts[-1] if hosts else SHIPPED,
    )
    print(json.dumps(as_json(answer), indent=1) if options.json else "\n".join(as_text(answer)))
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing, and options without effect."""
    for name in ("disk", "driving_seconds"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(
                what=f"--{name.replace('_', '-')} is {value:g}.",
                why="It is a number above 0.",
                fix="Leave it out to take the usual value.",
            )
    idle = [name for name in ("wait", "variation") if getattr(options, name) is not None]
    if idle and options.jobs_per_hour is None:
        raise InputError(
            what=f"--{idle[0]} is given without --jobs-per-hour.",
            why="Jobs wait only where a rate of them arrives.",
            fix="Add for example --jobs-per-hour 60.",
        )
