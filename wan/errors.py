"""Errors that a user can act on: what happened, why it matters, how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class WanError(Exception):
    """Base of every error this pack raises on purpose.

    Args:
        what: what happened, with the values that show it.
        why: the rule or fact that makes it a problem.
        fix: a concrete value, file or action that cures it.
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what}\n{self.why}\n{self.fix}"


class InputError(WanError):
    """A value or file that the user gave cannot be used."""


class GeometryError(WanError):
    """Sizes, frame counts or tensor shapes do not fit each other or the model."""


class ModelError(WanError):
    """A model file is of the wrong kind, damaged, or incomplete."""


class MissingFileError(WanError):
    """A file or folder is not where it was looked for."""


class OutOfVramError(WanError):
    """The device ran out of memory; the fix names the cheapest cures."""


class UnavailableError(WanError):
    """An optional package, backend or feature is not available here."""


class RankError(WanError):
    """Of several processes that compute one video, another one failed; names it."""


class OutputError(WanError):
    """A result could not be written where it was asked for."""


class UpsamplingError(WanError):
    """Upsampling failed after sampling; the video without it is in the file `saved`."""

    def __init__(self, what: str, why: str, fix: str, saved: Path) -> None:
        super().__init__(what, why, fix)
        self.saved = saved


class Cancelled(Exception):  # noqa: N818 - a request of the user, not an error
    """The user cancelled the run. Carries no advice because nothing is wrong."""


@dataclass(frozen=True)
class Problem:
    """One wrong field of a request."""

    field: str
    """Parameter name as the app's page spells it."""
    what: str
    """The value and what is wrong with it."""
    fix: str
    """A value or action that is accepted."""


class ValidationError(InputError):
    """All wrong fields of one request, reported together."""

    def __init__(self, app: str, problems: Sequence[Problem]) -> None:
        count = len(problems)
        lines = [f"  {p.field}: {p.what} {p.fix}" for p in problems]
        super().__init__(
            what=f"{count} parameter{'s' if count != 1 else ''} of {app} cannot be used:",
            why="\n".join(lines),
            fix="Nothing was started. Correct the listed fields and run again.",
        )
        self.app = app
        self.problems = tuple(problems)
