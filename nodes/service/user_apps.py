"""Workflows of the user that name their inputs and outputs, as apps."""

import copy
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...wan.errors import WanError
from ...wan.params import Param
from ...wan.params.table import App
from ...wan.service.problems import ApiError, FieldError
from .. import host_server
from .app_params import FILE_KINDS, LOADERS, AppInput, as_param, check_name
from .graphs import Editor, Filled

log = logging.getLogger("wan_local")

NAMESPACE = "local"
INPUT, OUTPUT = "WanLocalAppInput", "WanLocalAppOutput"
_MAX_BYTES = 2_000_000
_MAX_FILES = 1000


@dataclass(frozen=True)
class UserApp:
    """One workflow."""

    app: App
    graph: Mapping[str, Mapping]
    version: str
    """Changes when the workflow does."""
    outputs: Mapping[str, str]
    """Node by name of the output."""
    media: dict[str, str]
    """What each file must be: image, video or audio."""


class UserApps:
    """The apps in the workflow folders; each file is read again when it has changed."""

    def __init__(self, folders: Callable[[], list[Path]] = host_server.workflow_folders) -> None:
        self._folders = folders
        self._known: dict[Path, tuple[tuple[int, int], UserApp | None]] = {}

    def all(self) -> dict[str, UserApp]:
        """By name."""
        found: dict[str, UserApp] = {}
        seen = {}
        for path, stamp in self._files():
            known = self._known.get(path)
            entry = known if known and known[0] == stamp else (stamp, _read(path))
            seen[path] = entry
            if entry[1] is not None:
                found.setdefault(entry[1].app.name, entry[1])
        self._known = seen
        return found

    def _files(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        count = 0
        for folder in self._folders():
            for path in sorted(folder.rglob("*.json")):
                try:
                    stat = path.stat()
                except OSError:
                    continue
                count += 1
                if count > _MAX_FILES:
                    return
                if stat.st_size <= _MAX_BYTES:
                    yield path, (stat.st_mtime_ns, stat.st_size)


def _read(path: Path) -> UserApp | None:
    try:
        text = path.read_text("utf-8")
        if OUTPUT not in text:  # most of them
            return None
        graph = json.loads(text)
        if not _is_graph(graph):
            return None
        return make_app(path.stem, graph)
    except (OSError, ValueError, RecursionError):
        return None  # not a workflow at all
    except WanError as error:
        log.warning("%s is no app: %s", path.name, " ".join(str(error).split()))
        return None


def _is_graph(graph: Any) -> bool:
    """In API format, and with an output that is named."""
    if not isinstance(graph, dict):
        return False
    nodes = list(graph.values())
    if not all(isinstance(n, dict) and isinstance(n.get("inputs"), dict) for n in nodes):
        return False
    return any(node.get("class_type") == OUTPUT for node in nodes)


def make_app(stem: str, graph: Mapping[str, Mapping]) -> UserApp:
    """The app that a workflow describes.

    Args:
        stem: of the file's name, which the app's name is made of.
    Raises:
        InputError: its nodes cannot be understood.
    """
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "workflow"
    params: dict[str, Param] = {}
    media = {}
    for node in _of_kind(graph, INPUT).values():
        given = _given(node)
        params.setdefault(
            given.name, as_param(given, isinstance(node["inputs"].get("value"), list))
        )
    outputs = {}
    for key, node in _of_kind(graph, OUTPUT).items():
        output = str(node["inputs"].get("name"))
        check_name(output)
        outputs.setdefault(output, key)
    app = App(name, f"The workflow {stem}.", tuple(params.values()), next(iter(outputs)))
    text = json.dumps(graph, sort_keys=True)
    return UserApp(app, graph, hashlib.sha256(text.encode()).hexdigest()[:12], outputs, media)


def fill_user_app(
    user_app: UserApp,
    values: Mapping[str, Any],
    link: Callable[[str, Any], str],
    prefix: str,
) -> Filled:
    """The workflow with a caller's values in the place of its input nodes.

    Args:
        values: every parameter; None where nothing is given.
        link: puts the file of a parameter into the input folder and gives its name there.
        prefix: folder of the results.
    Raises:
        ApiError: a text would make a loader leave its folder.
    """
    editor = Editor(copy.deepcopy(dict(user_app.graph)))
    for key, node in _of_kind(editor.graph, INPUT).items():
        given = _given(node)
        value = values.get(given.name)
        if value is None:
            value = node["inputs"].get("value")
        elif given.type in FILE_KINDS:
            kind, socket = LOADERS[given.type]
            loader = editor.add(kind, given.name)
            editor.set(loader, socket, link(given.name, value), given.name)
            value = [loader, 0]
        if isinstance(value, str):
            _refuse_paths(editor.graph, key, given.name, value)
        _replace(editor, key, value, given.name)
        del editor.graph[key]
    for name, key in user_app.outputs.items():
        editor.set(key, "filename_prefix", f"{prefix}/{name}")
        editor.filled.outputs[name] = key
    return editor.filled


def _replace(editor: Editor, key: str, value: Any, parameter: str) -> None:
    for other, node in editor.graph.items():
        for name, link in list(node["inputs"].items()):
            if link == [key, 0] and value is None:
                del node["inputs"][name]  # as if nothing were connected
            elif link == [key, 0]:
                editor.set(other, name, copy.copy(value), parameter)


def _refuse_paths(graph: Mapping[str, Mapping], key: str, parameter: str, value: str) -> None:
    """Keep a caller's text from naming files of the machine: older hosts load what they are told.

    Raises:
        ApiError: it leads out of the folder that a loader looks into, or into another one.
    """
    loads = any(
        "load" in node["class_type"].lower() and [key, 0] in node["inputs"].values()
        for node in graph.values()
    )
    parts = value.replace("\\", "/").split("/")
    leads_away = ".." in parts or parts[0] in ("", "~") or ":" in parts[0] or value.endswith("]")
    if loads and leads_away:
        text = f"{parameter} may only name a file in the folder that the workflow loads from"
        raise ApiError("validation_error", text, [FieldError(parameter, "invalid", text)])


def _of_kind(graph: Mapping[str, Mapping], kind: str) -> dict[str, Mapping]:
    return {key: node for key, node in graph.items() if node.get("class_type") == kind}


def _given(node: Mapping) -> AppInput:
    names = ("name", "type", "default", "minimum", "maximum", "choices", "description")
    return AppInput(**{name: str(node["inputs"].get(name, "")) for name in names})
