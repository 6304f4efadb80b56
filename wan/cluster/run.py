"""What the server knows of one job that it gave, or will give, to the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..service.executor import Job
from ..service.worker import plain_values
from .placement import app_name, model_key
from .storage import Storage


@dataclass
class Run:
    """A job on its way."""

    job: Job
    inputs: asyncio.Task[dict[str, str]] | None = None
    """Brings its files into the storage; their names there by parameter."""
    worker: str = ""
    """Name of the one that it was given to; empty: it waits."""
    is_next: bool = False
    """Whether its worker runs another job before it."""
    attempt: int = 0
    """Number of the last one that was given to a worker."""
    unbegun: int = 0
    """Attempts that came to nothing before they began."""
    is_spared: bool = False
    """Whether one of them ended with the death of its worker: the next death counts, as it may be
    this job that kills."""
    seen: int = 0
    """Number of the worker's last message of this attempt."""
    is_cancelled: bool = False
    is_ending: bool = False
    killer: asyncio.TimerHandle | None = None
    """Ends the worker if a cancel has no effect."""
    order: dict[str, Any] = field(default_factory=dict)
    """What the worker was told, to be told again to one that may not have heard."""

    @property
    def tries(self) -> int:
        """Attempts that began, or may have begun."""
        return self.attempt - self.unbegun

    def attempt_words(self, retries: int, reason: str) -> str:
        """What is told of the next attempt; of the last one, if it was that."""
        tries = self.tries
        if tries <= retries:
            return f"attempt {tries + 1} of {retries + 1}: {reason}"
        return (
            f"Attempt {tries} of {tries} ended too early: {reason}. Run it again, or with fewer "
            "frames if memory is short; the cluster's logs may say more."
        )

    @property
    def files(self) -> list[str]:
        """Names of its inputs in the storage, as far as they are there."""
        task = self.inputs
        is_done = task is not None and task.done() and not task.cancelled()
        return [] if not is_done or task.exception() else list(task.result().values())

    def stop_waiting(self) -> None:
        """Its end is known: nothing more is to happen by itself."""
        self.is_ending = True
        if self.killer is not None:
            self.killer.cancel()
        if self.inputs is not None:
            self.inputs.cancel()


def put_inputs(storage: Storage, job: Job) -> dict[str, str]:
    """Bring a job's files into the storage.

    Returns:
        Their names there by parameter.
    Raises:
        OSError: it cannot be written.
    """
    paths = {name: value for name, value in job.values.items() if isinstance(value, Path)}
    return {name: storage.put_input(path) for name, path in paths.items()}


def make_order(job: Job, attempt: int, files: Mapping[str, str], models: str) -> dict[str, Any]:
    """What a worker is told of a job."""
    return {
        "task_id": job.task_id,
        "attempt": attempt,
        "app": app_name(job.app),
        "key": model_key(job.app, job.values, models),
        "values": {k: v for k, v in plain_values(job.values).items() if k not in files},
        "files": dict(files),
    }
