"""A list of values as people type it: "3, 5, 8", "unipc, dpm++" or "1 to 3 by 0.5"."""

from __future__ import annotations

import re

from ..errors import InputError

MOST_VALUES = 64
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_RANGE = re.compile(rf"^({_NUMBER})\s+to\s+({_NUMBER})(?:\s+by\s+({_NUMBER}))?$")
Value = int | float | bool | str
_WORDS = {"true": True, "false": False}


def read_values(text: str) -> list[Value]:
    """What a list holds: whole numbers, numbers, true or false, else texts.

    Args:
        text: separated by commas; with line breaks in it by those instead, for values that hold
            commas.
    Raises:
        InputError: no value, more than 64, or a range that never ends.
    """
    parts = text.splitlines() if "\n" in text.strip() else text.split(",")
    values = [value for part in parts if part.strip() for value in _read(part.strip())]
    if not 1 <= len(values) <= MOST_VALUES:
        raise InputError(
            what=f"The list {text!r} holds {len(values)} values.",
            why=f"What follows runs once for each: at least 1, at most {MOST_VALUES}.",
            fix='Write for example "3, 5, 8" or "1 to 3 by 0.5".',
        )
    return values


def _read(text: str) -> list[Value]:
    found = _RANGE.match(text)
    if found:
        first, last = (float(found[n]) for n in (1, 2))
        step = float(found[3] or 1)
        if step <= 0 or last < first or (last - first) / step >= MOST_VALUES:
            raise InputError(
                what=f"The range {text!r} cannot be walked.",
                why=f"It goes up, in steps above 0, to at most {MOST_VALUES} values.",
                fix='Write for example "1 to 3 by 0.5".',
            )
        count = int((last - first) / step + 1e-9) + 1
        return [_plain(first + n * step) for n in range(count)]
    if re.fullmatch(_NUMBER, text):
        return [_plain(float(text)) if "." in text else int(text)]
    return [_WORDS.get(text.lower(), text)]


def _plain(number: float) -> int | float:
    """Without what binary fractions add, and whole where it is."""
    number = round(number, 9)
    return int(number) if number.is_integer() else number
