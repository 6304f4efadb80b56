"""What a video file says about how it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ..params import App

OWN_TAG = "wan_local"
"""Name of our tag, one JSON object with `seed` (or null) and what made the video. Matroska and WebM
spell all names in capitals."""
_PREFIX = "WanLocal"
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACES = {ord(brace): f"\\u{ord(brace):04x}" for brace in "{}"}
_ADDRESSES = {"lora_file"}  # parameters that may name a file, though they are texts


def run_tags(app: App, values: Mapping[str, Any], seed: int) -> dict[str, str]:
    """The tags of a run of an app.

    Of files only their names are told: folders are nobody's business, and an address may hold a
    password.

    Args:
        values: all parameters, as `wan.params.validate` returns them.
        seed: the one that was used; it takes the place of -1.
    """
    files = {p.name for p in app.params if p.kind == "file"} | _ADDRESSES
    told = {k: _file_name(v) if k in files and v else v for k, v in values.items()}
    made = {"seed": seed, "app": app.name, "parameters": {**told, "seed": seed}}
    return {OWN_TAG: json.dumps(made)}


def graph_tags(
    prompt: Mapping[str, Any] | None, page: Mapping[str, Any] | None, node_id: str | None
) -> dict[str, str]:
    """The tags of a graph: what ComfyUI reads when the file is dropped on its page, and our own.

    Args:
        prompt: the graph as it was queued, {node id: {"class_type", "inputs"}}.
        page: what the page sends along, above all its "workflow".
        node_id: of the node that saves; our tag tells of our nodes that lead to it.
    """
    tags = dict(page or {})
    if prompt is not None:
        tags["prompt"] = prompt
        ours = [node for node in _before(prompt, node_id) if _is_ours(node)]
        nodes = [{"node": node["class_type"], "inputs": _constants(node)} for node in ours]
        seeds = [node["inputs"]["seed"] for node in nodes if "seed" in node["inputs"]]
        tags[OWN_TAG] = {"seed": seeds[0] if seeds else None, "nodes": nodes}
    return {k: v if isinstance(v, str) else _json(v) for k, v in tags.items()}


def _json(value: Any) -> str:
    """JSON without braces in texts: older pages count those, too, to find the end in a WebM."""
    return _TEXT.sub(lambda text: text[0].translate(_BRACES), json.dumps(value))


def _before(prompt: Mapping[str, Any], node_id: str | None) -> Iterator[Mapping[str, Any]]:
    """The nodes whose results reach a node, nearest first, and then itself."""
    waiting, seen = [str(node_id)], {str(node_id)}
    for current in waiting:
        node = prompt.get(current)
        if node is None:
            continue
        yield node
        links = [v[0] for v in node["inputs"].values() if _is_link(v)]
        waiting += [link for link in dict.fromkeys(links) if link not in seen]
        seen.update(links)


def _is_ours(node: Mapping[str, Any]) -> bool:
    return str(node.get("class_type", "")).startswith(_PREFIX)


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _constants(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}


def _file_name(address: Any) -> str:
    """The last part of a path or an address, without a query."""
    return PurePosixPath(urlsplit(str(address).replace("\\", "/")).path).name
