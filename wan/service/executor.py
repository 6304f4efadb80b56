"""The place where jobs run plugs in here: an in-process worker, ComfyUI, or several machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from .statuses import Status


@dataclass(frozen=True)
class Job:
    """What an executor is given. Everything is checked, every file is on this disk."""

    task_id: str
    app: str
    """Namespace and name."""
    values: Mapping[str, Any]
    """Every parameter; files as paths; the seed is drawn."""
    folder: Path
    """Its own folder, which exists, for what it writes."""
    key_id: str = ""
    """The API key that asked for it; keys get their turns in fairness."""
    priority: int = 0
    """-10 to 10; higher ones come first."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    status: Status
    """COMPLETED, FAILED or CANCELLED."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Finished files by the name of the app's output."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """width, height, fps, frames, seconds, as far as known."""
    error: str = ""
    """What the user reads if it failed."""


@dataclass(frozen=True)
class WorkerInfo:
    """A place that runs one job at a time, as it is at the moment."""

    id: str
    """Stays the same while it lives."""
    node: str
    """Name of its machine."""
    status: Literal["idle", "busy", "starting"] = "idle"
    """Starting: its process comes up; loading models counts as busy."""
    task_id: str | None = None
    """What it runs; None: nothing, or what did not come through the service."""
    devices: tuple[str, ...] = ()
    """Where it computes, for example "cuda:0"."""
    models: tuple[str, ...] = ()
    """Names of what it holds in memory, for example of the apps whose models those are."""
    jobs_done: int = 0
    """Jobs that it brought to an end, whatever that was."""


class Listener(Protocol):
    """Who is told. Every method may be called from any thread, and never raises."""

    def status(self, task_id: str, status: Status) -> None:
        """It reached PREPARING, SETTING_UP, RUNNING or UPLOADING."""
        ...

    def progress(self, task_id: str, share: float, stage: str) -> None:
        """0..1 of the whole job, and what is happening."""
        ...

    def log(self, task_id: str, text: str, mark: str = "") -> None:
        """A line for the task's log. One with the mark of a line that is kept already is dropped:
        an executor may tell again what it is not sure to have told before the server ended."""
        ...

    def retried(self, task_id: str, text: str) -> None:
        """What ran it was lost, and it waits again; the text says why, and is logged."""
        ...

    def preview(self, task_id: str, picture: bytes) -> None:
        """A JPEG of the moment."""
        ...

    def queue(self, order: list[str]) -> None:
        """The ids of the waiting tasks, next one first."""
        ...

    def ended(self, task_id: str, outcome: Outcome) -> None:
        """Called exactly once for each submitted job."""
        ...


class Executor(Protocol):
    """Runs jobs. All methods are called in the server's event loop."""

    async def start(self, listener: Listener) -> None:
        """Ready to take jobs."""
        ...

    async def submit(self, job: Job) -> None:
        """Queue a job; returns at once.

        Raises:
            ApiError: the job cannot be taken (missing weights: requirements_not_met; a host that
                refuses its graph: validation_error).
        """
        ...

    async def cancel(self, task_id: str) -> None:
        """Take it out of the queue or stop it as soon as it can; `ended` tells when. No effect on
        unknown or ended jobs. A job that finishes first stays completed."""
        ...

    async def adopt(self, job: Job) -> bool:
        """Take over a job that an earlier server submitted.

        Returns:
            Whether it is here: waiting, running or ended. `ended` will tell, as after `submit`.
        """
        ...

    async def forget(self, task_id: str) -> None:
        """The end of a job is saved, and its files are taken: what is left of it may go."""
        ...

    async def close(self) -> None:
        """Stop what runs and free everything; nothing is told afterwards."""
        ...


@runtime_checkable
class Watched(Protocol):
    """What an executor may have besides, for the view of the cluster and for metrics."""

    name: str
    """In one word: worker, comfyui, ray."""
    dashboard: str | None
    """Address of a page of its own, or None."""

    async def workers(self) -> Sequence[WorkerInfo]:
        """All of its workers."""
        ...
