"""What an owner of the service can set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Limits and places."""

    data: Path
    """Folder of database, uploads, results and keys."""
    prefix: str = "/infsh"
    """Of every route."""
    public_url: str | None = None
    """Scheme, host and prefix as clients see them; None: taken from each request."""
    listens_on_loopback: bool = True
    """Whether only this machine can reach the server. Decides what webhooks and fetched addresses
    may reach: private networks only while it is true, or if they are in `allowed_hosts`."""
    allowed_hosts: tuple[str, ...] = ()
    """Names or addresses in private networks that may be reached anyway."""
    max_queue: int = 100
    """Waiting tasks per key."""
    max_grid: int = 64
    """Tasks of one grid; never more than `max_queue`."""
    max_body: int = 10_000_000
    """Bytes of a JSON request."""
    max_upload: int = 4_000_000_000
    """Bytes of one file, uploaded or fetched."""
    max_pixels: int = 100_000_000
    """Of a picture."""
    min_free: int = 1_000_000_000
    """Bytes that must stay free on the disk."""
    max_streams: int = 64
    """Open streams per key."""
    upload_seconds: int = 3600
    """How long an upload link lives."""
    fetch_seconds: float = 600.0
    """For the whole of a fetched file."""
    event_seconds: float = 10.0
    """A running or waiting task says something to its streams at least this often."""
    keep_days: float = 30.0
    """Ended tasks and their files are deleted after that."""
    requeue: bool = False
    """Whether a task that was running when the server stopped runs once more."""
    sdk_webhook_numbers: bool = False
    """Webhooks carry the SDK's status numbers in place of the pages'."""
