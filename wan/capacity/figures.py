"""A number, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Origin(str, Enum):
    """How much a number can be trusted."""

    MEASURED = "measured"
    """Taken on a device of that kind at that size."""
    COUNTED = "counted"
    """Exact arithmetic: products, bytes, tokens."""
    MODELLED = "modelled"
    """A formula, however good the numbers are that go into it."""
    NOMINAL = "nominal"
    """The vendor's data."""


@dataclass(frozen=True)
class Figure:
    """A number that says where it comes from."""

    value: float
    unit: str
    origin: Origin
    source: str
    """Which measurement, formula or sheet, in a few words."""

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "value": self.value,
            "unit": self.unit,
            "origin": self.origin.value,
            "source": self.source,
        }


def modelled(value: float, unit: str, source: str) -> Figure:
    """A number that a formula gives."""
    return Figure(value, unit, Origin.MODELLED, source)


def counted(value: float, unit: str, source: str) -> Figure:
    """A number that is exact."""
    return Figure(value, unit, Origin.COUNTED, source)


def nominal(value: float, unit: str, source: str) -> Figure:
    """A number of the vendor's."""
    return Figure(value, unit, Origin.NOMINAL, source)


def measured(value: float, unit: str, source: str) -> Figure:
    """A number that was taken on a device."""
    return Figure(value, unit, Origin.MEASURED, source)
