"""Refusals of the API, as RFC 9457 problem documents that the SDK reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TYPE = "https://inference.sh/errors/"
"""The SDK takes the code from what follows "/errors/"."""
HTTP_STATUSES = {
    "invalid_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "SESSION_NOT_FOUND": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "invalid_transition": 409,
    "SESSION_EXPIRED": 410,
    "SESSION_ENDED": 410,
    "requirements_not_met": 412,
    "limit_exceeded": 413,
    "unsupported_media_type": 415,
    "range_not_satisfiable": 416,
    "validation_error": 422,
    "rate_limited": 429,
    "internal_error": 500,
    "app_maintenance": 503,
    "out_of_space": 507,
}


@dataclass(frozen=True)
class FieldError:
    """One wrong field of a request."""

    field: str
    code: str
    """required, invalid, or another single word."""
    message: str
    """A sentence that names the field."""

    def as_json(self) -> dict[str, str]:
        """As answers carry it."""
        return {"field": self.field, "code": self.code, "message": self.message}


class ApiError(Exception):
    """A request that is refused; becomes an answer of type application/problem+json.

    Args:
        code: one of the codes above, which decides the HTTP status.
        detail: what the user reads: what happened, and how to go on.
        errors: the wrong fields, or for requirements_not_met the missing things as the SDK's
            `RequirementsNotMetError` wants them.
        headers: more response headers, for example Retry-After.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        errors: Sequence[FieldError | Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = HTTP_STATUSES[code]
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = {
            "type": _TYPE + self.code,
            "title": self.code.replace("_", " ").title(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            document["errors"] = [
                e.as_json() if isinstance(e, FieldError) else dict(e) for e in self.errors
            ]
        return document
