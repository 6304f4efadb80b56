"""Turns raw values into a complete, checked set; reports every wrong field at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

from ..errors import Problem, ValidationError
from .table import App, Param

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def validate(app: App, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check values by the app's table and fill in defaults.

    Args:
        app: whose parameters.
        values: by parameter name; numbers and booleans may also be text, as on a command
            line. None stands for "not given".
    Returns:
        Every parameter of the app by name, in the table's order. One that was not given has
        its default; one whose work is still to come is left out.
    Raises:
        ValidationError: carries one `Problem` per wrong field.
    """
    given = {name: value for name, value in values.items() if value is not None}
    problems = [_unknown(app, name) for name in given if name not in app.names]
    checked: dict[str, Any] = {}
    for param in app.params:
        if not param.works:
            if param.name in given:
                problems.append(_not_yet(param))
            continue
        if param.name not in given:
            if param.required:
                problems.append(Problem(param.name, "is missing.", f"Give it: {param.description}"))
            checked[param.name] = param.default
            continue
        value, problem = _check(param, given[param.name])
        if problem is not None:
            problems.append(problem)
        checked[param.name] = value
    if not problems and all(p.works for p in app.params if p.required):
        problems = app.rules(checked)
    if problems:
        raise ValidationError(app.name, problems)
    return checked


def _unknown(app: App, name: str) -> Problem:
    near = difflib.get_close_matches(name, app.names, n=1)
    fix = f"Did you mean {near[0]}?" if near else f"Its parameters are {', '.join(app.names)}."
    return Problem(name, f"is not a parameter of {app.name}.", fix)


def _not_yet(param: Param) -> Problem:
    return Problem(
        param.name, "is not supported by this version.", "Leave it out; see CHANGELOG.md."
    )


def _check(param: Param, raw: Any) -> tuple[Any, Problem | None]:
    value = _convert(param, raw)
    if value is None:
        return raw, Problem(param.name, f"is {raw!r}.", _expected(param))
    if param.options and value not in param.options:
        near = difflib.get_close_matches(str(value), [str(o) for o in param.options], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return value, Problem(
            param.name, f"is {value!r}.", f"Use one of: {param.range_text}.{hint}"
        )
    if param.kind in ("integer", "number"):
        too_low = param.minimum is not None and value < param.minimum
        too_high = param.maximum is not None and value > param.maximum
        if too_low or too_high:
            return value, Problem(param.name, f"is {value}.", f"Use {param.range_text}.")
    if param.required and param.kind in ("string", "file") and not str(value).strip():
        return value, Problem(param.name, "is empty.", f"Give it: {param.description}")
    advice = param.check(value) if param.check else None
    if advice is not None:
        return value, Problem(param.name, f"is {value!r}.", advice)
    return value, None


def _expected(param: Param) -> str:
    nouns = {
        "string": "text",
        "file": "a file",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
    }
    ranges = f" ({param.range_text})" if param.range_text else ""
    return f"Use {nouns[param.kind]}{ranges}."


def _convert(param: Param, raw: Any) -> Any:
    """The value in the parameter's type, or None if it cannot be read as one."""
    if param.kind == "boolean":
        return _to_bool(raw)
    if param.kind in ("integer", "number"):
        return _to_number(raw, whole=param.kind == "integer")
    if param.kind == "string":
        return raw if isinstance(raw, str) else None
    return raw


def _to_bool(raw: Any) -> bool | None:
    if isinstance(raw, bool):
        return raw
    text = str(raw).strip().lower()
    if text in _TRUE:
        return True
    return False if text in _FALSE else None


def _to_number(raw: Any, whole: bool) -> int | float | None:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        if whole and isinstance(raw, (int, str)):
            return int(raw)
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    if whole:
        return int(number) if number.is_integer() else None
    return number
