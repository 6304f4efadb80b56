"""The body of POST /apps/run, checked apart from `input`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ..problems import ApiError, FieldError

_TEXTS = ("app", "webhook", "session", "function", "infra", "version_id", "app_id", "run_at")
_OBJECTS = ("setup", "metadata")
_WITHOUT_EFFECT = ("infra", "workers")
_LONGEST_IDLE = 3600
_TOP = 10
"""The highest priority; the lowest is its negative."""


@dataclass(frozen=True)
class RunRequest:
    """What a caller asks for."""

    app: str
    """Reference, as sent."""
    input: Any
    webhook: str | None = None
    session: str | None = None
    """"new", an id, or None."""
    session_timeout: int = 60
    """Seconds, 1 to 3600."""
    run_at: datetime | None = None
    setup: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    warnings: list[dict[str, str]] = field(default_factory=list)
    """For the envelope's messages."""

    @classmethod
    def read(cls, body: Any) -> RunRequest:
        """Read a body.

        Raises:
            ApiError: invalid_request (no object), validation_error with all wrong fields.
        """
        if not isinstance(body, Mapping):
            raise ApiError("invalid_request", "The body must be a JSON object with app and input.")
        wrong = [
            FieldError(name, "invalid", f"{name} must be a text")
            for name in _TEXTS
            if body.get(name) is not None and not isinstance(body[name], str)
        ]
        wrong += [
            FieldError(name, "invalid", f"{name} must be an object")
            for name in _OBJECTS
            if body.get(name) is not None and not isinstance(body[name], Mapping)
        ]
        if not body.get("app") and not any(error.field == "app" for error in wrong):
            wrong.append(FieldError("app", "required", "app is required"))
        metadata = body.get("metadata")
        if isinstance(metadata, Mapping) and not _is_priority(metadata.get("priority", 0)):
            message = f"metadata.priority must be a whole number from {-_TOP} to {_TOP}"
            wrong.append(FieldError("metadata", "invalid", message))
        timeout, run_at = body.get("session_timeout"), None
        if timeout is not None and not _is_timeout(timeout):
            message = f"session_timeout must be 1 to {_LONGEST_IDLE} seconds"
            wrong.append(FieldError("session_timeout", "invalid", message))
        elif timeout is not None and body.get("session") != "new":
            message = 'session_timeout goes only with session "new"'
            wrong.append(FieldError("session_timeout", "invalid", message))
        if isinstance(body.get("run_at"), str):
            run_at = _time(body["run_at"])
            if run_at is None:
                message = "run_at must be a time such as 2026-12-01T08:00:00Z"
                wrong.append(FieldError("run_at", "invalid", message))
        if wrong:
            raise ApiError("validation_error", "; ".join(e.message for e in wrong), wrong)
        return cls(
            app=_reference(body),
            input=body.get("input"),
            webhook=body.get("webhook") or None,
            session=body.get("session") or None,
            session_timeout=timeout or 60,
            run_at=run_at,
            setup=body.get("setup"),
            metadata=body.get("metadata"),
            warnings=[_no_effect(name) for name in _WITHOUT_EFFECT if body.get(name)],
        )


def _is_priority(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _TOP


def _is_timeout(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LONGEST_IDLE


def _reference(body: Mapping[str, Any]) -> str:
    """The app's reference, with a version and function that were sent apart."""
    reference = body["app"]
    if body.get("version_id") and "@" not in reference:
        name, colon, function = reference.partition(":")
        reference = f"{name}@{body['version_id']}{colon}{function}"
    if body.get("function") and ":" not in reference:
        reference = f"{reference}:{body['function']}"
    return reference


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).astimezone(
            timezone.utc
        )
    except (ValueError, OverflowError):
        return None


def _no_effect(name: str) -> dict[str, str]:
    return {
        "level": "warning",
        "code": "no_effect",
        "message": f"{name} has no effect here: this machine alone runs the app.",
    }
