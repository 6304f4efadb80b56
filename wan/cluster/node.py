"""What a machine of the cluster says of itself: the pack's version, and which weights are missing."""

from __future__ import annotations

import platform
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MissingFileError, UnavailableError, WanError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class NodeReport:
    """What was found on one machine."""

    node: str
    """Host name and address."""
    version: str
    """Of the pack."""
    lacks: Mapping[str, str] = field(default_factory=dict)
    """Apps whose weights are not there, with what is missing."""


def pack_version() -> str:
    """The pack's version here, as pyproject.toml has it."""
    text = (ROOT / "pyproject.toml").read_text("utf8")
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    return found[1] if found else "unknown"


def inspect_node(models: str, address: str) -> dict[str, Any]:
    """A `NodeReport` as a dictionary; called on the machine itself.

    Args:
        models: "mini", "tiny" or a folder of weights.
        address: of the machine, as Ray calls it.
    """
    from ..miniatures import find_miniature
    from ..params import APPS
    from ..terminal import find_weights

    lacks = {}
    for app in () if find_miniature(models) else APPS:
        try:
            find_weights(models, app)
        except WanError as error:
            lacks[app] = " ".join(str(error).split())
    name = f"{platform.node() or socket.gethostname()} ({address})"
    return {"node": name, "version": pack_version(), "lacks": lacks}


def check_version(node: str, version: str) -> None:
    """Refuse another version of the pack. Raises: UnavailableError.

    Args:
        node: where it was found.
        version: as `pack_version`.
    """
    own = pack_version()
    if version != own:
        raise UnavailableError(
            what=f"The node {node} has version {version} of this pack; here it is {own}.",
            why="Server and workers speak with each other and must be of one version.",
            fix=f"Bring {ROOT} on that node to version {own}, and start again.",
        )


def check_nodes(reports: Sequence[NodeReport], models: str) -> dict[str, str]:
    """Refuse machines on which no job can run.

    Args:
        reports: of all machines that workers may be placed on.
        models: as in `inspect_node`.
    Returns:
        Apps whose weights no machine has, with what is missing.
    Raises:
        UnavailableError: another version of the pack is on one of them.
        MissingFileError: one of them has the weights of no app.
    """
    from ..params import APPS

    for report in reports:
        check_version(report.node, report.version)
        if report.lacks and set(report.lacks) >= set(APPS):
            raise MissingFileError(
                what=f"The node {report.node} has no weights in {models}: "
                f"{next(iter(report.lacks.values()))}",
                why="Each worker reads the models from the same --models on its own machine.",
                fix=download_command(models, next(iter(report.lacks))),
            )
    if not reports:
        return {}
    common = set.intersection(*(set(report.lacks) for report in reports))
    return {app: _on(reports[0], app, models) for app in sorted(common)}


def download_command(models: str, app: str) -> str:
    """What brings an app's weights to a machine."""
    return f"Run there: python -m wan models --models {models} --download {app}"


def _on(report: NodeReport, app: str, models: str) -> str:
    return f"On {report.node}: {report.lacks[app]} {download_command(models, app)}"
