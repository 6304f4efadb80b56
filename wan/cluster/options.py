"""What `serve` tells the driver, and the driver its workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

IDLE_SECONDS = 600.0


@dataclass(frozen=True)
class ClusterOptions:
    """How jobs run in the cluster."""

    namespace: str
    """Ray's namespace of this service: its workers are found there, and no others."""
    storage: str
    """URL of the folder that server and workers share."""
    models: str
    """"mini", "tiny" or the whole path of a folder of weights, the same on each machine."""
    address: str = "auto"
    """"auto" (a cluster that runs on this machine), "local" (one that ends with this process),
    host:port of a head, or ray://host:port."""
    device: str = "auto"
    """As in `wan.terminal.open_device`."""
    offload: str | None = None
    """What leaves the device in every job; None: as each job says."""
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
        return cls(**json.loads(text))


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is made with."""

    storage: str
    models: str
    device: str
    offload: str | None
    idle_seconds: float
    ranks: int = 1
    """GPUs that one job may use together."""
