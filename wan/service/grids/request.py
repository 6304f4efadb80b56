"""The body of POST /grids, checked apart from the values themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...grid import repeats
from ..problems import ApiError, FieldError
from ..tasks import RunRequest

_SHOWN = 6
"""Lists that a message names the sizes of."""
_LARGE = 10**6


@dataclass(frozen=True)
class GridRequest:
    """What a caller asks for."""

    run: RunRequest
    """What all tasks share."""
    axes: dict[str, list[Any]]
    """Values by parameter, in the order given."""

    @classmethod
    def read(cls, body: Any, most: int) -> GridRequest:
        """Read a body.

        Args:
            most: combinations that are allowed.
        Raises:
            ApiError: invalid_request (no object), validation_error with all wrong fields.
        """
        run, wrong = None, []
        try:
            run = RunRequest.read(body)
        except ApiError as error:
            if error.code != "validation_error":
                raise
            wrong = list(error.errors)
        axes = body.get("grid")
        wrong += [FieldError("grid", "invalid", text) for text in _problems(axes, most)]
        given = body.get("input")
        if isinstance(given, Mapping) and isinstance(axes, Mapping):
            wrong += [
                FieldError(name, "invalid", f"{name} is in input and in grid. Leave one out")
                for name in axes
                if given.get(name) is not None
            ]
        if body.get("session"):
            message = "session goes only with single tasks"
            wrong.append(FieldError("session", "invalid", message))
        if run is None or wrong:
            raise ApiError("validation_error", "; ".join(e.message for e in wrong), wrong)
        return cls(run, {name: list(values) for name, values in axes.items()})


def _problems(axes: Any, most: int) -> list[str]:
    if not isinstance(axes, Mapping) or not axes:
        return ['grid must be an object with lists of values, such as {"seed": [1, 2, 3]}']
    found = []
    for name, values in axes.items():
        shown = repr(name[:100])
        if not isinstance(values, list) or not values:
            found.append(f"grid {shown} must be a list of at least one value")
        elif repeats(name, values):
            found.append(f"grid {shown} lists a value twice")
    if found:
        return found
    sizes = [len(values) for values in axes.values()]
    count = math.prod(sizes)
    if count > most:
        product = " x ".join(map(str, sizes[:_SHOWN])) + (" x ..." if len(sizes) > _SHOWN else "")
        shown = f"{count:.3g}" if count > _LARGE else str(count)
        return [f"grid has {product} = {shown} combinations; the most are {most}"]
    return []
