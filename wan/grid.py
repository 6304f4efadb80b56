"""Several values for some parameters, as the list of all their combinations."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
SEED = "seed"
_LONGEST = 40
"""Characters of one value in a label."""


def combine(axes: Mapping[str, Sequence[T]]) -> list[dict[str, T]]:
    """All combinations, in the order of nested loops: the last name changes fastest.

    Args:
        axes: values by name.
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def repeats(name: str, values: Sequence[Any]) -> bool:
    """Whether two values of a list ask for the same. Seeds to be drawn come out different."""
    texts = [repr(value) for value in values if name != SEED or not is_drawn(value)]
    return len(set(texts)) < len(texts)


def is_drawn(seed: Any) -> bool:
    """Whether a seed asks for one that is drawn: None or negative."""
    return seed is None or (isinstance(seed, int | float) and seed < 0)


def draw_seeds(
    found: Sequence[dict[str, Any]], places: Sequence[Mapping[str, int]], largest: int
) -> None:
    """Put in what has to be drawn: one seed for all combinations, or one for each place in the list
    of seeds, so that nothing but the listed parameters differs.

    Args:
        found: complete values of each combination; changed.
        places: for each combination the place of its values in their lists, by name.
        largest: the largest seed that is drawn.
    """
    drawn: dict[int, int] = {}
    for values, place in zip(found, places, strict=True):
        if SEED in values and is_drawn(values[SEED]):
            number = place.get(SEED, 0)
            drawn.setdefault(number, secrets.randbelow(largest + 1))
            values[SEED] = drawn[number]


def describe(values: Mapping[str, Any]) -> str:
    """A combination as people read it: "seed 1, guidance_scale 3.5"."""
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
