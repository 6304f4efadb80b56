"""The options of `serve` that concern a cluster."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace
from pathlib import Path

from ..engine import Engine
from ..errors import InputError
from .options import IDLE_SECONDS, ClusterOptions

_ONLY_RAY = (
    "address",
    "storage",
    "workers",
    "gpus_per_job",
    "cpus_per_job",
    "retries",
    "idle_minutes",
)
_ID_FILE = "cluster-id"


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add --executor and what belongs to it."""
    parser.add_argument(
        "--executor",
        choices=("worker", "ray"),
        default="worker",
        help="worker (default): one process on this machine; ray: workers in a Ray cluster",
    )
    group = parser.add_argument_group("with --executor ray")
    group.add_argument(
        "--address",
        help="auto (default): the cluster that runs on this machine; local: one of this machine "
        "alone, which ends with the server; host:port of a head; ray://host:port",
    )
    group.add_argument(
        "--storage",
        metavar="URL",
        help="where server and workers exchange files: a folder that all machines share, or an "
        "fsspec URL such as s3://bucket/folder (default: a folder in --data)",
    )
    group.add_argument(
        "--workers", type=int, help="at most so many (default: as the cluster's resources allow)"
    )
    group.add_argument(
        "--gpus-per-job",
        type=float,
        help="a share below 1, or a whole number (default: 1 where the cluster has GPUs, else 0)",
    )
    group.add_argument("--cpus-per-job", type=float, help="default 1")
    group.add_argument(
        "--retries", type=int, help="how often a job is tried again whose worker died (default 1)"
    )
    group.add_argument(
        "--idle-minutes",
        type=float,
        help="a worker that runs nothing ends itself after so long without a server (default "
        f"{IDLE_SECONDS / 60:g})",
    )


def check_cluster_options(options: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything starts.

    Raises:
        InputError: an option without --executor ray, or out of its range.
    """
    if options.executor != "ray":
        given = [name for name in _ONLY_RAY if getattr(options, name) is not None]
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise InputError(
                what=f"{names} has no effect without --executor ray.",
                why="One process on this machine runs the jobs otherwise.",
                fix="Add --executor ray, or leave it out.",
            )
        return
    for name, least in (("workers", 1), ("retries", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise _out_of_range(name, value, f"a whole number from {least}")
    gpus, cpus = options.gpus_per_job, options.cpus_per_job
    if options.ranks < 1:
        raise _out_of_range("ranks", options.ranks, "a whole number from 1")
    if options.ranks > 1 and gpus and gpus != options.ranks:
        raise InputError(
            what=f"--ranks {options.ranks} and --gpus-per-job {gpus:g} do not fit each other.",
            why="Each of the processes that compute one video has a GPU of its own.",
            fix="Leave --ranks out: a job with several GPUs has as many ranks.",
        )
    if gpus is not None and (not gpus >= 0 or (gpus > 1 and gpus % 1)):
        raise _out_of_range("gpus-per-job", gpus, "0, a share below 1, or a whole number")
    if options.idle_minutes is not None and not options.idle_minutes > 0:
        raise _out_of_range("idle-minutes", options.idle_minutes, "a number above 0")
    if cpus is not None and not cpus >= 0:
        raise _out_of_range("cpus-per-job", cpus, "0 or more")


def cluster_options(options: argparse.Namespace, data: Path, engine: Engine) -> ClusterOptions:
    """The options as a record.

    Args:
        data: folder of the server; its id in the cluster is kept there.
        engine: with the whole path of a folder of weights.
    Raises:
        OSError: the id cannot be kept.
    """
    namespace = _own_id(data)
    storage = options.storage or str(data / "storage")
    if "://" not in storage:
        storage = str(Path(storage).resolve())
    return ClusterOptions(
        namespace=namespace,
        storage=f"{storage.rstrip('/')}/{namespace}",
        engine=replace(engine, ranks=_ranks(options)),
        address=options.address or "auto",
        gpus=options.gpus_per_job,
        cpus=1.0 if options.cpus_per_job is None else options.cpus_per_job,
        idle_seconds=IDLE_SECONDS if options.idle_minutes is None else 60 * options.idle_minutes,
    )


def _ranks(options: argparse.Namespace) -> int:
    """Processes that compute one video: as many as it has GPUs, or as --ranks says."""
    return max(options.ranks, int(options.gpus_per_job or 0))


def _own_id(data: Path) -> str:
    """What tells this service from others in the same cluster and storage."""
    path = data / _ID_FILE
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        partial = path.with_suffix(".partial")
        partial.write_text(f"wan-{secrets.token_hex(8)}", "ascii")
        partial.replace(path)
        return path.read_text("ascii").strip()


def _out_of_range(name: str, value: float, wanted: str) -> InputError:
    return InputError(
        what=f"--{name} {value:g} cannot be used.",
        why="It decides how the cluster runs the jobs.",
        fix=f"Give {wanted}.",
    )
