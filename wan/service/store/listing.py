"""Lists with filters, order, search and cursors, as SQL with values apart."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ..problems import ApiError

R = TypeVar("R")
MOST = 200
"""Items of one page."""
_COMPARISONS = {"eq": "=", "neq": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_NUMBERS = {"status", "size", "progress", "attempts", "call_count"}


@dataclass(frozen=True)
class ListQuery:
    """What a caller wants to see."""

    cursor: str = ""
    """Of an earlier page; empty: the first page."""
    limit: int = 20
    """1 to 200."""
    filters: tuple[Mapping[str, Any], ...] = ()
    """{field, operator, value} each; all must hold."""
    sort: tuple[Mapping[str, Any], ...] = ()
    """{field, dir}; the first one counts. None: newest first."""
    search: str = ""
    """Text that occurs anywhere in the record."""

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MOST:
            raise ApiError("invalid_request", f"limit is {self.limit}. Use 1 to {MOST}.")


@dataclass
class Page(Generic[R]):
    """One page of a list."""

    items: list[R] = field(default_factory=list)
    next_cursor: str = ""
    prev_cursor: str = ""
    limit: int = 20

    def as_json(self, render: Callable[[R], Any]) -> dict[str, Any]:
        """As answers carry it."""
        return {
            "items": [render(item) for item in self.items],
            "next_cursor": self.next_cursor,
            "prev_cursor": self.prev_cursor,
            "has_next": bool(self.next_cursor),
            "has_previous": bool(self.prev_cursor),
            "items_per_page": self.limit,
        }


@dataclass(frozen=True)
class Statement:
    """SQL of one page, with one item more than wanted."""

    sql: str
    values: list[Any]
    column: str
    is_backwards: bool


def make_statement(table: str, columns: tuple[str, ...], query: ListQuery) -> Statement:
    """The statement that finds a page.

    Args:
        table: with columns id and document.
        columns: what may be filtered and sorted by as a column; other names are looked up in the
            document.
        query: from outside; its names are checked, its values never become SQL.
    Raises:
        ApiError: invalid_request, naming the filter, sort or cursor.
    """
    wheres, values = [], []
    for one in query.filters:
        where, more = _filter(one, columns)
        wheres.append(where)
        values += more
    if query.search:
        wheres.append("instr(lower(document), lower(?))")
        # Documents hold ASCII only, as JSON spells the rest.
        values.append(json.dumps(query.search)[1:-1])
    column, falls = _order(query, columns)
    is_backwards = False
    if query.cursor:
        value, last, is_backwards = _read_cursor(query.cursor)
        sign = "<" if falls != is_backwards else ">"
        wheres.append(f"({column}, id) {sign} (?, ?)")
        values += [value, last]
    way = "DESC" if falls != is_backwards else "ASC"
    where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
    order = f" ORDER BY {column} {way}, id {way} LIMIT {query.limit + 1}"
    sql = f"SELECT id, document, {column} AS place FROM {table}{where}{order}"
    return Statement(sql, values, column, is_backwards)


def make_page(rows: list[Any], query: ListQuery, statement: Statement, read: Callable) -> Page:
    """The page in rows of a statement.

    Args:
        read: makes a record of a document.
    """
    has_more = len(rows) > query.limit
    rows = rows[: query.limit]
    if statement.is_backwards:
        rows.reverse()
    page = Page([read(row["document"]) for row in rows], limit=query.limit)
    if rows and (has_more or statement.is_backwards):
        page.next_cursor = _cursor(rows[-1], is_backwards=False)
    if rows and query.cursor and (has_more or not statement.is_backwards):
        page.prev_cursor = _cursor(rows[0], is_backwards=True)
    return page


def _place(name: Any, columns: tuple[str, ...]) -> str:
    """SQL for a field; the name is checked, as it becomes part of the statement."""
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise ApiError("invalid_request", f"A filter or sort has the field {name!r}.")
    return name if name in columns else f"json_extract(document, '$.{name}')"


def _filter(one: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[str, list[Any]]:
    place, operator = _place(one.get("field"), columns), one.get("operator")
    value = one.get("value")
    if operator in _COMPARISONS and _is_plain(value):
        return f"{place} {_COMPARISONS[operator]} ?", [_typed(one["field"], value)]
    if operator in ("in", "not_in") and isinstance(value, list) and all(map(_is_plain, value)):
        marks = ", ".join("?" * len(value))
        word = "IN" if operator == "in" else "NOT IN"
        return f"{place} {word} ({marks})", [_typed(one["field"], v) for v in value]
    if operator in ("like", "ilike") and isinstance(value, str):
        return f"{place} LIKE ?", [value]
    if operator in ("contains", "not_contains") and isinstance(value, str):
        sign = ">" if operator == "contains" else "="
        return f"instr(lower({place}), lower(?)) {sign} 0", [value]
    if operator in ("is_null", "is_not_null"):
        return f"{place} IS {'NOT ' if 'not' in operator else ''}NULL", []
    if operator == "is_empty":
        return f"({place} IS NULL OR {place} = '')", []
    if operator == "is_not_empty":
        return f"({place} IS NOT NULL AND {place} != '')", []
    raise ApiError(
        "invalid_request",
        f"The filter on {one['field']} has the operator {operator!r} and the value {value!r}. Use "
        f"{', '.join(_COMPARISONS)}, in, not_in, like, ilike, contains, not_contains, is_null, "
        "is_not_null, is_empty or is_not_empty with a fitting value.",
    )


def _is_plain(value: Any) -> bool:
    # SQLite's whole numbers have 64 bits.
    is_small = not isinstance(value, int) or abs(value) < 2**63
    return isinstance(value, str | int | float) and is_small


def _typed(name: str, value: Any) -> Any:
    """Numbers may come as texts, as in addresses."""
    if name in _NUMBERS and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _order(query: ListQuery, columns: tuple[str, ...]) -> tuple[str, bool]:
    if not query.sort:
        return "created_at", True
    first = query.sort[0]
    return _place(first.get("field"), columns), str(first.get("dir", "desc")).lower() != "asc"


def _cursor(row: Any, is_backwards: bool) -> str:
    text = json.dumps([row["place"], row["id"], is_backwards])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[Any, str, bool]:
    try:
        value, last, is_backwards = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if (value is None or _is_plain(value)) and isinstance(last, str):
            return value, last, bool(is_backwards)
    except (ValueError, TypeError):
        pass
    raise ApiError("invalid_request", "cursor is none that this list gave. Leave it out.")
