"""The apps that can be run, as callers see them: names, versions and JSON schemas."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..params import validate
from ..params.table import App, Param
from .problems import ApiError

PUBLISHER = "infsh"
"""Namespace of the two hosted apps."""
_OBJECT_OUTPUTS = {"wan2-1-i2v"}
"""Apps whose page calls the output an object, not a string."""
_FILE_OBJECT = {
    "type": "object",
    "format": "file",
    "properties": {
        name: {"type": kind}
        for name, kind in (
            ("uri", "string"),
            ("path", "string"),
            ("content_type", "string"),
            ("size", "integer"),
            ("filename", "string"),
        )
    },
}


@dataclass(frozen=True)
class CatalogApp:
    """One app."""

    app: App
    """Its table of parameters."""
    version_id: str
    namespace: str = PUBLISHER

    @property
    def full_name(self) -> str:
        """Namespace and name, as requests spell it."""
        return f"{self.namespace}/{self.app.name}"

    @property
    def has_object_output(self) -> bool:
        """Whether the result is an object with `uri`, not the uri itself."""
        return self.app.name in _OBJECT_OUTPUTS

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of `input`; properties in the order of the app's page."""
        return {
            "type": "object",
            "properties": {p.name: _property(p) for p in self.app.params if p.works},
            "required": [p.name for p in self.app.params if p.required],
        }

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """JSON schema of `output`."""
        file = _FILE_OBJECT if self.has_object_output else {"type": "string", "format": "file"}
        return {"type": "object", "properties": {self.app.output: file}}

    def validate(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Complete, checked values. Raises: ValidationError with all wrong fields."""
        return validate(self.app, values)

    def file_names(self) -> set[str]:
        """Names of the parameters that are files."""
        return {p.name for p in self.app.params if p.kind == "file"}

    def as_json(self) -> dict[str, Any]:
        """As answers carry it."""
        version = {
            "id": self.version_id,
            "short_id": self.version_id,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "functions": {
                "run": {"input_schema": self.input_schema, "output_schema": self.output_schema}
            },
            "default_function": "run",
        }
        return {
            "id": self.id,
            "namespace": self.namespace,
            "name": self.app.name,
            "description": self.app.summary,
            "category": "video",
            "status": "active",
            "version_id": self.version_id,
            "version": version,
        }

    @property
    def id(self) -> str:
        """Made of the name, so that it stays."""
        return f"app_{hashlib.sha256(self.full_name.encode()).hexdigest()[:20]}"


def catalog_app(app: App, version_id: str | None = None, namespace: str = PUBLISHER) -> CatalogApp:
    """An app for the catalog.

    Args:
        version_id: None: made of its table, so that another table is another version.
    """
    if version_id is None:
        table = repr([(p.name, p.kind, p.default, p.range_text, p.required) for p in app.params])
        version_id = hashlib.sha256(table.encode()).hexdigest()[:8]
    return CatalogApp(app, version_id, namespace)


class Catalog:
    """All apps that can be run.

    Args:
        apps: that are always there.
        extra: called at each look for more, such as workflows that users have named.
    """

    def __init__(
        self,
        apps: Sequence[CatalogApp],
        extra: Callable[[], Sequence[CatalogApp]] = tuple,
    ) -> None:
        self._apps, self._extra = tuple(apps), extra

    def apps(self) -> list[CatalogApp]:
        """All of them."""
        return [*self._apps, *self._extra()]

    def find(self, reference: str) -> CatalogApp:
        """The app that a request means.

        Args:
            reference: `namespace/name`, perhaps with "app/" before it, and `@version` and
                `:function` behind it.
        Raises:
            ApiError: invalid_request (no such form), not_found.
        """
        name, _, function = reference.strip().removeprefix("app/").partition(":")
        name, _, version = name.partition("@")
        if name.count("/") != 1:
            raise ApiError(
                "invalid_request",
                f"app is {reference[:100]!r}. Write namespace/name, for example "
                f"{PUBLISHER}/wan2-1-i2v.",
            )
        found = next((app for app in self.apps() if app.full_name == name), None)
        if found is None:
            names = ", ".join(app.full_name for app in self.apps())
            raise ApiError("not_found", f"There is no app {name[:100]!r}. There are {names}.")
        if version not in ("", "latest", found.version_id):
            raise ApiError(
                "not_found",
                f"{name} has no version {version[:100]!r} here; it has {found.version_id}.",
            )
        if function not in ("", "run"):
            raise ApiError("not_found", f"{name} has no function {function[:100]!r}, only run.")
        return found

    def by_id(self, app_id: str) -> CatalogApp:
        """An app by its id. Raises: ApiError not_found."""
        found = next((app for app in self.apps() if app.id == app_id), None)
        if found is None:
            raise ApiError("not_found", f"There is no app with the id {app_id[:100]!r}.")
        return found


def _property(param: Param) -> dict[str, Any]:
    kinds = {"file": "string"}
    found: dict[str, Any] = {
        "type": kinds.get(param.kind, param.kind),
        "description": param.description,
    }
    if param.kind == "file":
        found["format"] = "file"
    if param.default is not None:
        found["default"] = param.default
    if param.minimum is not None:
        found["minimum"] = param.minimum
    if param.maximum is not None:
        found["maximum"] = param.maximum
    if param.options:
        found["enum"] = list(param.options)
    return found
