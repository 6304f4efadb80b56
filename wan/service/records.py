"""What the store keeps: tasks, grids, events and logs, files, webhook deliveries, sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from .statuses import Status


def now() -> datetime:
    """The current time, UTC."""
    return datetime.now(timezone.utc)


def iso(time: datetime | None) -> str | None:
    """ISO 8601 with milliseconds and Z, as answers spell times."""
    if time is None:
        return None
    return time.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def new_id(kind: str) -> str:
    """An id that nobody can guess: `kind`, an underscore and 32 hex digits."""
    return f"{kind}_{uuid4().hex}"


@dataclass
class Task:
    """One run of an app. Mutable: the task manager alone changes it, and saves each change."""

    app: str
    """Namespace and name, for example "infsh/wan2-1-i2v"."""
    version_id: str
    input: dict[str, Any]
    """Every parameter with its default and the drawn seed. A file is {"$file": file id}, before it
    was fetched {"$url": address}; addresses of files are made when the record is read."""
    id: str = field(default_factory=lambda: new_id("task"))
    function: str = "run"
    status: Status = Status.RECEIVED
    output: dict[str, Any] | None = None
    """As `input`; only when completed."""
    error: str = ""
    """One readable text; empty unless failed."""
    webhook: str | None = None
    session_id: str | None = None
    setup: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    run_at: datetime | None = None
    key_id: str = ""
    """Which API key asked for it."""
    origin: str = ""
    """Scheme and host under which the request came, for addresses in webhooks."""
    attempts: int = 0
    """How often an executor began it."""
    cancel_asked: bool = False
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)
    progress: float = 0.0
    """0 to 100, never falling."""
    stage: str = ""
    """What is happening, for example "sample 7/20"."""
    eta_seconds: float | None = None
    preview: str | None = None
    """Id of the file with the last preview picture."""


@dataclass
class Grid:
    """One request that made a task for each combination of the values that it lists."""

    app: str
    """Namespace and name."""
    axes: dict[str, list[Any]]
    """Values by parameter in the order given, checked; files as in `Task.input`."""
    items: list[dict[str, Any]]
    """{task_id, values} of each combination; the last parameter changes fastest."""
    key_id: str = ""
    """Which API key asked for it."""
    sheet: str | None = None
    """Id of the file that shows all results beside each other, once somebody wanted it."""
    id: str = field(default_factory=lambda: new_id("grid"))
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class Event:
    """A task reached a status."""

    task_id: str
    status: Status
    id: str = field(default_factory=lambda: new_id("event"))
    created_at: datetime = field(default_factory=now)


@dataclass(frozen=True)
class LogLine:
    """One line that a task said."""

    task_id: str
    content: str
    log_type: int = 4
    """0 build, 1 run, 2 serve, 3 setup, 4 task."""
    id: str = field(default_factory=lambda: new_id("log"))
    created_at: datetime = field(default_factory=now)


@dataclass
class File:
    """An uploaded, fetched or made file."""

    filename: str
    """As its owner calls it, without folders; for showing, never for a path."""
    content_type: str
    """What the bytes say once they are there; what was declared before."""
    id: str = field(default_factory=lambda: new_id("file"))
    size: int | None = None
    """Bytes; before the upload what was declared."""
    path: str = ""
    """Below the data folder, or absolute for results that lie elsewhere; empty until uploaded."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """type, width, height, duration, fps, as far as known."""
    key_id: str = ""
    upload_expires: int | None = None
    """Unix seconds; None once the upload was used or where there is none."""
    created_at: datetime = field(default_factory=now)
    updated_at: datetime = field(default_factory=now)

    @property
    def is_there(self) -> bool:
        """Whether the bytes have arrived."""
        return bool(self.path)


@dataclass
class Delivery:
    """A webhook that has to arrive."""

    task_id: str
    url: str
    body: str
    """The same bytes at every attempt."""
    id: str = field(default_factory=lambda: new_id("msg"))
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """{at, status or error} of each attempt."""
    next_at: datetime | None = field(default_factory=now)
    """When to try again; None: delivered or given up."""
    delivered: bool = False
    created_at: datetime = field(default_factory=now)


@dataclass
class Session:
    """A record only: models stay warm anyway."""

    app: str
    id: str = field(default_factory=lambda: new_id("sess"))
    key_id: str = ""
    idle_timeout: int = 60
    """Seconds, 1 to 3600."""
    call_count: int = 0
    status: str = "active"
    """active, ended or expired."""
    last_call_at: datetime = field(default_factory=now)
    created_at: datetime = field(default_factory=now)
