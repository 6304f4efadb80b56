"""What a Wan App Input node says, as a parameter of the kind that the pack's own apps have."""

import re
from dataclasses import dataclass

from ...wan.errors import InputError
from ...wan.params import Param, validate
from ...wan.params.table import App

LOADERS = {
    "image": ("LoadImage", "image"),
    "video": ("LoadVideo", "file"),
    "audio": ("LoadAudio", "audio"),
}
"""Class and input of the core node that reads a file of each kind."""
FILE_KINDS = (*LOADERS,)
KINDS = {
    "text": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "choice": "string",
    **dict.fromkeys(FILE_KINDS, "file"),
}
"""Kind of parameter by what the node's drop-down says."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class AppInput:
    """The widgets of one node."""

    name: str
    type: str = "text"
    default: str = ""
    minimum: str = ""
    maximum: str = ""
    choices: str = ""
    description: str = ""


def check_name(name: str) -> None:
    """See whether something may be called that.

    Raises:
        InputError: it has other signs than letters, digits and underscores.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            what=f"An app input or output is called {name!r}.",
            why="Callers write the name into their code.",
            fix="Use letters, digits and underscores, a letter first.",
        )


def as_param(given: AppInput, has_value: bool = False) -> Param:
    """The parameter that a node describes.

    Args:
        has_value: something is connected to the node, which counts where nothing is given.
    Raises:
        InputError: its widgets do not fit each other.
    """
    check_name(given.name)
    if given.type not in KINDS:
        raise InputError(
            what=f"The app input {given.name!r} has the type {given.type!r}.",
            why=f"The types are {', '.join(KINDS)}.",
            fix="Choose one of them.",
        )
    options = tuple(part.strip() for part in given.choices.split(",") if part.strip())
    if given.type == "choice" and not options:
        raise _unusable(given, "has no choices.", "Name them, separated by commas.")
    bounds = [_bound(given, text) for text in (given.minimum, given.maximum)]
    numeric = KINDS[given.type] in ("integer", "number")
    param = Param(
        given.name,
        KINDS[given.type],
        given.description or f"The workflow's input {given.name}.",
        minimum=bounds[0] if numeric else None,
        maximum=bounds[1] if numeric else None,
        options=options if given.type == "choice" else (),
    )
    default = _default(given, param)
    # Text may be empty; of anything else nothing can be made up.
    if given.type == "text" and not default and has_value:
        default = None
    required = default is None and not has_value
    return Param(**{**vars(param), "default": default, "required": required})


def default_value(given: AppInput):
    """What the node gives where nothing is connected to it.

    Raises:
        InputError: it has no default, or one that its own range refuses.
    """
    param = as_param(given)
    if param.default is None:
        raise _unusable(given, "has no default.", "Write one, or connect something to value.")
    return param.default


def _default(given: AppInput, param: Param):
    if given.type == "text":
        return given.default
    if given.type in FILE_KINDS or not given.default.strip():
        return None
    try:
        alone = App("this workflow", "", (param,), "")
        return validate(alone, {given.name: given.default.strip()})[given.name]
    except InputError as error:
        raise _unusable(given, f"has the default {given.default!r}.", error.why.strip()) from error


def _bound(given: AppInput, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise _unusable(given, f"has the bound {text!r}.", "Write a number or nothing.") from None


def _unusable(given: AppInput, what: str, fix: str) -> InputError:
    return InputError(
        what=f"The app input {given.name!r} {what}",
        why=f"Its type is {given.type}.",
        fix=fix,
    )
