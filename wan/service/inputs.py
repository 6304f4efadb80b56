"""Reads the `input` of a run as the SDK and plain callers send it."""

from __future__ import annotations

import asyncio
import base64
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import Problem, ValidationError
from ..grid import combine
from .files import FileStore
from .guard import Guard
from .links import Links
from .problems import ApiError, FieldError
from .records import File
from .sniff import HEAD, UNKNOWN, media_kind, sniff
from .texts import FILE_TEXTS, MAX_TEXT, decoded, text_problem

_SHOWN = 300
"""Characters of a message, which repeats the wrong value."""
_WARNINGS = 20
_NUMBERS = 8
"""Combinations that a message names."""
_KINDS = {
    "input_image": "image",
    "end_frame": "image",
    "reference_image": "image",
    "driving_video": "video",
}
"""What the apps' files must be; a schema's contentMediaType says it for other apps."""

Values = dict[str, Any]
Warnings = list[dict[str, str]]


class InputApp(Protocol):
    """What this room needs to know of an app."""

    input_schema: Mapping[str, Any]
    validate: Callable[[Mapping[str, Any]], dict[str, Any]]

    def file_names(self) -> Any:
        """Names of the parameters that are files."""
        ...


class FileFinder(Protocol):
    """What of the store this room needs."""

    async def file(self, file_id: str) -> File | None:
        """The record, or None."""
        ...


@dataclass
class _Reading:
    """One input on its way."""

    values: Values = field(default_factory=dict)
    errors: dict[str, FieldError] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    """Bytes of data URIs, which are kept only once everything else is right."""
    uploads: dict[str, str] = field(default_factory=dict)
    """Own files that are given for texts; an app's table knows them as texts only."""

    def refuse(self, name: str, message: str) -> None:
        if len(message) > _SHOWN:
            message = message[: _SHOWN - 3] + "..."
        self.errors[name] = FieldError(name, "invalid", message)

    def joined(self, others: Iterable[_Reading]) -> _Reading:
        """This and others of other names."""
        whole = _Reading()
        for part in (self, *others):
            whole.values |= part.values
            whole.errors |= part.errors
            whole.data |= part.data
            whole.uploads |= part.uploads
        return whole


class Inputs:
    """Turns what callers send into checked values.

    Args:
        files: keeps data URIs, and has the bytes of own files.
        store: knows own files.
        links: recognises their addresses.
        guard: decides about other addresses.
    """

    def __init__(self, files: FileStore, store: FileFinder, links: Links, guard: Guard) -> None:
        self._files, self._store, self._links, self._guard = files, store, links, guard

    async def read(
        self, app: InputApp, raw: Any, *, origin: str = "", key_id: str = ""
    ) -> tuple[Values, Warnings]:
        """Check an input by an app's table. Fetches nothing.

        A file may be given as the address or id of an upload, another http(s) address, a data URI,
        or an object with one of these in `uri` or `path`; never as a path on the server. A text
        that the SDK took for base64 and uploaded becomes that text again.

        Args:
            raw: the value of `input`; None counts as an empty object, and null in it as not given.
            origin: scheme and host of the request, to tell own addresses from others.
            key_id: whose files data URIs become.
        Returns:
            Every parameter; a file as {"$file": id} or, where it has to be fetched, {"$url":
            address}. And warnings for the envelope's `messages`, one per name that the app lacks.
        Raises:
            ApiError: validation_error with one `FieldError` per wrong field; limit_exceeded or
                out_of_space for a data URI that cannot be kept.
        """
        given = _given(raw)
        reading = await self._reading(app, given, origin)
        values = _complete(app, reading)
        await self._keep_data(reading, values, key_id, {})
        return values, _warnings(given, app.input_schema["properties"])

    async def read_grid(
        self,
        app: InputApp,
        raw: Any,
        axes: Mapping[str, Sequence[Any]],
        *,
        origin: str = "",
        key_id: str = "",
    ) -> tuple[list[Values], Warnings]:
        """Check all combinations of an input with listed values. Each file is looked at and kept
        once, however many combinations share it.

        Args: as `read`; `raw` without the names of `axes`, which are parameters of the app.
        Returns:
            Every parameter of each combination, as `read`; the last axis changes fastest.
        Raises:
            ApiError: as `read`; messages say which combinations are meant, unless all are.
        """
        given = _given(raw)
        base = await self._reading(app, given, origin)
        parts = {
            name: [await self._reading(app, {name: value}, origin) for value in values]
            for name, values in axes.items()
        }
        readings = [base.joined(chosen.values()) for chosen in combine(parts)]
        found: list[Values] = []
        refused: dict[tuple[str, str, str], list[int]] = {}
        for number, reading in enumerate(readings, 1):
            try:
                found.append(_complete(app, reading))
            except ApiError as error:
                for wrong in error.errors:
                    key = wrong.field, wrong.code, wrong.message
                    refused.setdefault(key, []).append(number)
        if refused:
            raise _refusal(_of_combinations(refused, len(readings)))
        kept: dict[int, File] = {}
        for reading, values in zip(readings, found, strict=True):
            await self._keep_data(reading, values, key_id, kept)
        return found, _warnings(given, app.input_schema["properties"])

    async def _reading(self, app: InputApp, given: Mapping[str, Any], origin: str) -> _Reading:
        known, reading = app.input_schema["properties"], _Reading()
        for name in known:
            if given.get(name) is None:
                continue
            if name in app.file_names():
                await self._read_file(reading, name, given[name], known[name], origin)
            elif isinstance(given[name], str):
                await self._read_text(reading, name, given[name])
            else:
                reading.values[name] = given[name]
        return reading

    async def _read_file(
        self, reading: _Reading, name: str, value: Any, schema: Mapping[str, Any], origin: str
    ) -> None:
        if isinstance(value, Mapping):
            value = value.get("uri") or value.get("path")
        if not isinstance(value, str):
            message = "is no file. Give the address of an upload, a URL or a data URI"
            reading.refuse(name, f"{name} {message}.")
            return
        value, wanted = value.strip(), _wanted_kind(name, schema)
        if value.startswith("data:"):
            data = await asyncio.to_thread(decoded, value)
            if data is None:
                reading.refuse(name, f"{name} is a data URI that cannot be decoded, or is empty.")
            elif _expect(reading, name, sniff(data[:HEAD]), wanted):
                reading.data[name] = data
                reading.values[name] = {"$data": name}
        elif value:
            await self._read_address(reading, name, value, wanted, origin)

    async def _read_address(
        self, reading: _Reading, name: str, address: str, wanted: str | None, origin: str
    ) -> None:
        file_id = self._links.file_id(address)
        file = await self._store.file(file_id) if file_id else None
        if file is not None:
            if not file.is_there:
                reading.refuse(name, f"{name}: {file.id} was declared, but not uploaded yet.")
            elif _expect(reading, name, file.content_type, wanted):
                reading.values[name] = {"$file": file.id}
        elif address == file_id or self._links.is_own(address, origin):
            reading.refuse(
                name, f"{name} is {address!r}, and there is no such file here (any more)."
            )
        elif address.lower().startswith(("http://", "https://")):
            try:
                await self._guard.check_url(address)
                reading.values[name] = {"$url": address}
            except ApiError as error:
                reading.refuse(name, f"{name}: {error.detail}")
        else:
            reading.refuse(
                name,
                f"{name} is {address[:100]!r}. Paths on the server are never read: upload the "
                "file, or give a URL or a data URI.",
            )

    async def _read_text(self, reading: _Reading, name: str, text: str) -> None:
        file_id = self._links.file_id(text)
        file = await self._store.file(file_id) if file_id else None
        if file is not None and file.is_there:
            original = self._original(file)
            if original is not None:
                text = original
            elif name in FILE_TEXTS:
                if file.content_type == "application/x-safetensors":
                    reading.values[name] = file.filename or file.id
                    reading.uploads[name] = file.id
                else:
                    reading.refuse(name, f"{name}: {file.filename!r} is no safetensors file.")
                return
        problem = text_problem(name, text)
        if problem is not None:
            reading.refuse(name, f"{name} {problem}")
        else:
            reading.values[name] = text

    def _original(self, file: File) -> str | None:
        """The text that the SDK took for base64: bytes of no kind, without a name."""
        if file.content_type != UNKNOWN or file.filename or (file.size or 0) > MAX_TEXT:
            return None
        try:
            return base64.b64encode(self._files.path(file).read_bytes()).decode()
        except OSError:
            return None

    async def _keep_data(
        self, reading: _Reading, values: Values, key_id: str, kept: dict[int, File]
    ) -> None:
        """Make files of data URIs; `kept` has those of the same bytes object, by its id."""
        for name, data in reading.data.items():
            try:
                if id(data) not in kept:
                    kept[id(data)] = await self._files.add_bytes(data, key_id=key_id)
            except ApiError as error:
                for file in kept.values():
                    await self._files.delete(file)
                message = f"{name}: {error.detail}"
                wrong = FieldError(name, "invalid", message)
                raise ApiError(error.code, message, [wrong]) from None
            values[name] = {"$file": kept[id(data)].id}


def expect_kind(app: InputApp, name: str, file: File) -> None:
    """Refuse a fetched file of the wrong kind, as `Inputs.read` does with uploads.

    Raises:
        ApiError: validation_error that names the parameter.
    """
    reading = _Reading()
    schema = app.input_schema["properties"][name]
    if not _expect(reading, name, file.content_type, _wanted_kind(name, schema)):
        raise _refusal(reading.errors.values())


def _wanted_kind(name: str, schema: Mapping[str, Any]) -> str | None:
    declared = str(schema.get("contentMediaType", "")).partition("/")[0]
    return declared if declared in ("image", "video", "audio") else _KINDS.get(name)


def _expect(reading: _Reading, name: str, content_type: str, wanted: str | None) -> bool:
    kind = media_kind(content_type)
    # A picture is a video of one frame, and sound may come in a video's container.
    also = {"video": "image", "audio": "video"}.get(wanted or "")
    if wanted is None or (kind and kind in (wanted, also)):
        return True
    article = "an" if wanted[0] in "aeiou" else "a"
    reading.refuse(
        name,
        f"{name} must be {article} {wanted} file, but its bytes are "
        + (f"{content_type}." if kind else "of no known kind, or damaged."),
    )
    return False


def _given(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, Mapping) and raw is not None:
        error = FieldError("input", "invalid", "input must be an object of parameters")
        raise ApiError("validation_error", error.message, [error])
    return {name: value for name, value in (raw or {}).items() if value is not None}


def _complete(app: InputApp, reading: _Reading) -> Values:
    uploads = {name: {"$file": file_id} for name, file_id in reading.uploads.items()}
    return {**_validated(app, reading), **uploads}


def _of_combinations(
    refused: Mapping[tuple[str, str, str], Sequence[int]], count: int
) -> list[FieldError]:
    """What is wrong, each thing once, with the numbers of the combinations that it is about."""
    errors = []
    for (name, code, message), numbers in refused.items():
        if len(numbers) < count:
            shown = ", ".join(map(str, numbers[:_NUMBERS]))
            more = ", ..." if len(numbers) > _NUMBERS else ""
            plural = "s" if len(numbers) > 1 else ""
            message = f"{message} (combination{plural} {shown}{more} of {count})"
        errors.append(FieldError(name, code, message))
    return errors


def _validated(app: InputApp, reading: _Reading) -> Values:
    """Complete values; all that is wrong is raised together."""
    try:
        values = app.validate(reading.values)
    except ValidationError as error:
        for problem in error.problems:
            # Without its refused value a field looks as if it were missing.
            if problem.field not in reading.errors:
                _take_problem(reading, problem)
        values = {}
    if reading.errors:
        place = {name: i for i, name in enumerate(app.input_schema["properties"])}
        raise _refusal(sorted(reading.errors.values(), key=lambda e: place.get(e.field, -1)))
    return values


def _take_problem(reading: _Reading, problem: Problem) -> None:
    name = problem.field
    if name not in reading.values:
        reading.errors[name] = FieldError(name, "required", f"{name} is required")
        return
    what = problem.what
    if len(what) > _SHOWN // 2:
        what = what[: _SHOWN // 2] + "..."
    joint = " " if what.startswith("is ") else ": "
    reading.refuse(name, f"{name}{joint}{what} {problem.fix}")


def _refusal(errors: Any) -> ApiError:
    errors = list(errors)
    detail = "; ".join(error.message.rstrip(".") for error in errors)
    return ApiError("validation_error", detail, errors)


def _warnings(given: Mapping[str, Any], known: Mapping[str, Any]) -> Warnings:
    unknown = [str(name) for name in given if name not in known]
    found = []
    for name in unknown[:_WARNINGS]:
        shown = name if len(name) <= 100 else name[:97] + "..."
        near = difflib.get_close_matches(shown, list(known), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        message = f"{shown!r} is not a parameter of this app and has no effect.{hint}"
        found.append({"level": "warning", "code": "unknown_field", "message": message})
    if len(unknown) > _WARNINGS:
        message = f"So are {len(unknown) - _WARNINGS} more names."
        found.append({"level": "warning", "code": "unknown_field", "message": message})
    return found
