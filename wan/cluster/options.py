"""What `serve` tells the driver, and the driver its workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..engine import Engine

IDLE_SECONDS = 600.0


@dataclass(frozen=True)
class ClusterOptions:
    """How jobs run in the cluster."""

    namespace: str
    """Ray's namespace of this service: its workers are found there, and no others."""
    storage: str
    """URL of the folder that server and workers share."""
    engine: Engine
    """How jobs are computed; a folder of weights by its whole path, the same on each machine."""
    address: str = "auto"
    """"auto" (a cluster that runs on this machine), "local" (one that ends with this process),
    host:port of a head, or ray://host:port."""
    gpus: float | None = None
    """Of each worker, a share below 1 or a whole number; None: 1 where the cluster has GPUs."""
    cpus: float = 1.0
    """Of each worker."""
    idle_seconds: float = IDLE_SECONDS
    """After so long without a word from the server a worker that runs nothing ends itself."""

    def as_text(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> ClusterOptions:
        """What `as_text` gave."""
        read = json.loads(text)
        return cls(**{**read, "engine": Engine(**read["engine"])})

    @property
    def models(self) -> str:
        """Of the engine."""
        return self.engine.models


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is made with."""

    storage: str
    engine: Engine
    idle_seconds: float
