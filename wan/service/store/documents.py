"""Records as JSON texts and back."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, TypeVar

from ..statuses import Status

R = TypeVar("R")


def to_document(record: Any) -> str:
    """A record of `records` as JSON."""
    return json.dumps(asdict(record), default=datetime.isoformat, ensure_ascii=True)


def from_document(kind: type[R], text: str) -> R:
    """The record that a document was made of. Fields that this version does not know are left out.

    Args:
        kind: a dataclass of `records`.
    """
    found = json.loads(text)
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in found:
            continue
        value = found[field.name]
        # Annotations are texts, since all modules import them from the future.
        if value is not None and "datetime" in str(field.type):
            value = datetime.fromisoformat(value)
        elif field.type == "Status":
            value = Status(value)
        values[field.name] = value
    return kind(**values)
