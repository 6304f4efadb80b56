"""Everything that is asked of Ray. Used by the driver's process alone."""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InputError, UnavailableError
from .actor import WorkerActor
from .node import ROOT, NodeReport, check_nodes, inspect_node
from .options import ClusterOptions, WorkerOptions
from .storage import Storage

log = logging.getLogger("wan_local")

_OBJECT_BYTES = 500_000_000
"""Of Ray's object store in a cluster of our own: parts of videos on their way."""
_INSPECT_SECONDS = 120.0
_KNOCK_SECONDS = 5.0
_CALLS = 64
"""At the same time to one worker; none of them computes."""


class Cluster:
    """A connection to Ray; made by `connect`.

    Args:
        options: of the service.
        cpus, gpus: of each worker.
        dashboard: host and port of Ray's own page; empty: there is none.
    """

    def __init__(
        self, options: ClusterOptions, cpus: float, gpus: float, dashboard: str | None
    ) -> None:
        self._options, self._needs = options, {"CPU": cpus, "GPU": gpus}
        self._dashboard = dashboard

    @classmethod
    def connect(cls, options: ClusterOptions) -> Cluster:
        """Join the cluster, and see that workers fit into it.

        Raises:
            UnavailableError: Ray is not installed or of another version, or out of reach.
            InputError: a worker needs more than any machine has.
            OutputError: the storage cannot be written.
        """
        if options.address == "local":
            _make_token()
        try:
            import ray
        except ImportError as error:
            raise missing_ray() from error
        Storage.open(options.storage).check()
        _expect_answer(options.address)
        more: dict[str, Any] = {}
        if options.address == "local":
            more = {"include_dashboard": False, "object_store_memory": _OBJECT_BYTES}
        try:
            context = ray.init(
                address=options.address,
                namespace=options.namespace,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # Workers find the pack where it lies here.
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
                **more,
            )
        except Exception as error:
            raise not_let_in(options.address, str(error)) from error
        gpus = options.gpus
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        cluster = cls(options, options.cpus, gpus, context.dashboard_url)
        cluster._expect_room()
        return cluster

    def inspect(self) -> dict[str, Any]:
        """Look at each machine that workers may be placed on.

        Returns:
            nodes: their names; lacks: apps whose weights none has, with what is missing.
        Raises:
            UnavailableError, MissingFileError: one of them cannot serve.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        probe = ray.remote(num_cpus=0, max_retries=0)(inspect_node)
        reports = []
        asked = []
        for node in self._nodes():
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            address = node["NodeManagerAddress"]
            work = probe.options(scheduling_strategy=there)
            asked.append((address, work.remote(self._options.models, address)))
        for address, reference in asked:
            try:
                found = ray.get(reference, timeout=_INSPECT_SECONDS)
            except Exception as error:
                raise UnavailableError(
                    what=f"The node {address} cannot run this pack ({self.words(error)}).",
                    why=f"Workers import it from {ROOT}, with the Python that Ray was started with.",
                    fix="Put the same checkout there, with its requirements installed, or take the "
                    "node out of the cluster.",
                ) from error
            reports.append(NodeReport(**found))
        lacks = check_nodes(reports, self._options.models)
        nodes = [report.node for report in reports]
        page = f"http://{self._dashboard}" if self._dashboard else None
        return {"nodes": nodes, "lacks": lacks, "needs": self._needs, "dashboard": page}

    def find_workers(self) -> dict[str, Any]:
        """Handles of this service's workers by their names."""
        import ray

        found = {}
        for name in ray.util.list_named_actors():
            try:
                found[name] = ray.get_actor(name)
            except ValueError:  # it has just died
                continue
        return found

    def start_worker(self, name: str) -> Any:
        """Have a worker started; its handle. It outlives this process."""
        import ray

        options, gpus = self._options, self._needs["GPU"]
        engine = options.engine
        if not gpus and engine.device == "auto":
            engine = replace(engine, device="cpu")
        made = WorkerOptions(options.storage, engine, options.idle_seconds)
        actor = ray.remote(WorkerActor).options(
            name=name,
            lifetime="detached",
            num_cpus=self._needs["CPU"],
            num_gpus=gpus,
            max_restarts=0,  # a restarted one would hold no models; another is started
            max_concurrency=_CALLS,
        )
        return actor.remote(made)

    def kill(self, worker: Any) -> None:
        """End a worker at once."""
        import ray

        ray.kill(worker, no_restart=True)

    def room(self, workers: int, starting: int) -> int:
        """Number of further workers that there are resources for.

        Args:
            workers: that have started.
            starting: that are being started.
        """
        import ray

        fits = sum(self._fits(node["Resources"]) for node in self._nodes()) - workers - starting
        left = self._fits(ray.available_resources()) - starting
        return max(0, min(fits, left))

    def is_death(self, error: BaseException) -> bool:
        """Whether an error of a call says that the worker is gone for good."""
        from ray.exceptions import ActorUnavailableError, RayActorError

        return isinstance(error, RayActorError) and not isinstance(error, ActorUnavailableError)

    def words(self, error: BaseException, seconds: float = _INSPECT_SECONDS) -> str:
        """An error as one line.

        Args:
            seconds: that were waited, for one that says nothing but that.
        """
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        if not lines:
            return f"no answer within {seconds:g} s"
        last = lines[-1] if "Traceback" in str(error) else lines[0]
        return " ".join(last.split())[:300]

    def _nodes(self) -> list[Mapping[str, Any]]:
        """Machines that at least one worker fits on."""
        import ray

        alive = [node for node in ray.nodes() if node["Alive"]]
        return [node for node in alive if self._fits(node["Resources"])]

    def _fits(self, resources: Mapping[str, float]) -> int:
        counts = [
            math.floor(resources.get(name, 0.0) / need + 1e-6)
            for name, need in self._needs.items()
            if need
        ]
        return min(counts, default=_CALLS)

    def _expect_room(self) -> None:
        import ray

        if self._nodes():
            return
        alive = [node for node in ray.nodes() if node["Alive"]]
        most = {
            name: max((node["Resources"].get(name, 0.0) for node in alive), default=0.0)
            for name in self._needs
        }
        raise InputError(
            what=f"A worker needs {self._needs['GPU']:g} GPUs and {self._needs['CPU']:g} CPUs; the "
            f"most that a node has is {most['GPU']:g} and {most['CPU']:g}.",
            why="A worker runs on one node.",
            fix="Use a smaller --gpus-per-job or --cpus-per-job, or add a node that is big enough.",
        )


def _make_token() -> None:
    """A cluster of our own asks for a token that nobody else knows. Ray would write one into the
    home folder, and every later head of this user would ask for that, too."""
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _door(address: str) -> tuple[str, int] | None:
    """Host and port that an address names; None: it leaves them to Ray."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    return (host, int(port)) if host and port.isdigit() else None


def _expect_answer(address: str) -> None:
    """Knock at the head's door: Ray itself would try for a minute. Raises: UnavailableError."""
    door = _door(address)
    if door is None:
        return
    try:
        socket.create_connection(door, _KNOCK_SECONDS).close()
    except OSError as error:
        raise _no_connection(address, str(error)) from error


def missing_ray() -> UnavailableError:
    """The error where Ray is not installed."""
    return UnavailableError(
        what="Ray is not installed.",
        why="--executor ray runs jobs in a Ray cluster.",
        fix='Install it here and on each node: pip install "ray>=2.40"',
    )


def not_let_in(address: str, reason: str) -> UnavailableError:
    """The error where a cluster cannot be joined although something answers, if a port is named.

    Args:
        address: of `--address`.
        reason: what Ray says.
    """
    text = " ".join(reason.split())[:300]
    if "ersion mismatch" in text:
        return UnavailableError(
            what=f"The cluster at {address} is of another version ({text}).",
            why="Ray wants the same Ray and Python, down to the minor version, on all machines.",
            fix="Install the cluster's versions here, or start the cluster with those of this "
            "environment.",
        )
    if _door(address) is None:
        return _no_connection(address, text)
    return UnavailableError(
        what=f"What answers at --address {address} does not let this server in ({text}).",
        why="A head that was started with a token asks for it and says no more than this. Or it is "
        "not a Ray head.",
        fix="With a token: set RAY_AUTH_MODE=token here, and have the head's ~/.ray/auth_token or "
        "RAY_AUTH_TOKEN here, too. Otherwise name the port that ray start printed.",
    )


def _no_connection(address: str, reason: str) -> UnavailableError:
    return UnavailableError(
        what=f"No Ray cluster can be reached at --address {address} ({reason}).",
        why="Jobs run in its workers.",
        fix="Start one with: ray start --head, name the right --address, or use --address local "
        "for this machine alone. If its head has a token, set RAY_AUTH_MODE=token here, too.",
    )
