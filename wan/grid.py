"""Several values for some parameters, as the list of all their combinations."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
_LONGEST = 40
"""Characters of one value in a label."""


def combine(axes: Mapping[str, Sequence[T]]) -> list[dict[str, T]]:
    """All combinations, in the order of nested loops: the last name changes fastest.

    Args:
        axes: values by name.
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def describe(values: Mapping[str, Any]) -> str:
    """A combination as people read it: "seed 1, guidance_scale 3.5"."""
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
