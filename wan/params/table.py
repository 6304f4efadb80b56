"""What a parameter and an app are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..errors import Problem

Kind = Literal["string", "integer", "number", "boolean", "file"]


@dataclass(frozen=True)
class Param:
    """One parameter as the hosted app's page spells it."""

    name: str
    kind: Kind
    description: str
    """What it does and what typical values mean, in one or two sentences."""
    default: Any = None
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    options: tuple[Any, ...] = ()
    works: bool = True
    """False while the work behind it is still to come: listed, and refused when given."""
    check: Callable[[Any], str | None] | None = field(default=None, repr=False)
    """For rules that no range can say: returns what to do instead, or None if it is fine."""

    @property
    def range_text(self) -> str:
        """The accepted values in words, for example "1 to 120" or "unipc, dpm++"."""
        if self.options:
            return ", ".join('""' if o == "" else str(o) for o in self.options)
        if self.minimum is None and self.maximum is None:
            return ""
        if self.maximum is None:
            return f"{self.minimum:g} or more"
        if self.minimum is None:
            return f"{self.maximum:g} or less"
        return f"{_number(self.minimum)} to {_number(self.maximum)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


@dataclass(frozen=True)
class App:
    """One of the two apps: its parameters in the order of its page."""

    name: str
    summary: str
    params: tuple[Param, ...]
    output: str
    """Name of the one output, the video file."""
    rules: Callable[[Mapping[str, Any]], list[Problem]] = field(default=lambda _: [], repr=False)
    """Rules between parameters; called with the complete values once each is right by itself."""

    def __getitem__(self, name: str) -> Param:
        return next(p for p in self.params if p.name == name)

    def widened(self, minimums: Mapping[str, float]) -> App:
        """This app with lower minimums, as some models allow.

        Args:
            minimums: by parameter name; a higher one than the app's own is ignored.
        """
        return self.adapted({}, minimums, self.summary)

    def adapted(
        self, defaults: Mapping[str, Any], minimums: Mapping[str, float], summary: str
    ) -> App:
        """This app as it suits some models.

        Args:
            defaults: by parameter name, in place of the app's own.
            minimums: likewise; a higher one than the app's own is ignored.
            summary: in place of the app's own.
        """
        params = tuple(
            replace(
                p,
                default=defaults.get(p.name, p.default),
                minimum=None
                if p.minimum is None
                else min(p.minimum, minimums.get(p.name, p.minimum)),
            )
            for p in self.params
        )
        return replace(self, params=params, summary=summary)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(p.name for p in self.params)
