"""The apps that ComfyUI answers for, and how a job of each becomes a graph."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...wan.miniatures import Miniature
from ...wan.params import APPS, I2V_APP
from ...wan.params.table import App
from ...wan.progress import Reporter
from ...wan.service.executor import Job
from ...wan.service.problems import ApiError
from .choices import choose, is_download
from .graphs import GRAPHS, Filled, fill, shipped
from .links import InputLinks
from .user_apps import NAMESPACE, UserApp, UserApps, fill_user_app

PUBLISHER = "infsh"


class AppGraphs:
    """Both apps of the pack and those of the user.

    Args:
        miniature: that the pack's own run on, with its defaults; None: the user's models.
        user_apps: the user's.
    """

    def __init__(
        self, miniature: Miniature | None = None, user_apps: UserApps | None = None
    ) -> None:
        self._miniature = miniature
        self._user_apps = user_apps or UserApps()

    def own(self) -> list[App]:
        """The pack's apps."""
        return [self._miniature.adapt(app) if self._miniature else app for app in APPS.values()]

    def users(self) -> list[UserApp]:
        """The user's apps."""
        return list(self._user_apps.all().values())

    def version(self, name: str) -> str:
        """Changes with the graphs behind an app of the pack, its parameters and the models."""
        table = [(p.name, p.kind, p.default, p.range_text) for p in APPS[name].params]
        graphs = [shipped(graph) for graph in GRAPHS[name]]
        text = json.dumps([table, graphs, self._miniature and self._miniature.name], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def fill(self, job: Job, links: InputLinks, prefix: str, reporter: Reporter) -> Filled:
        """The graph of a job.

        Args:
            reporter: follows a download and may cancel it.
            prefix: folder of the results, below ComfyUI's output folder.
        Raises:
            ApiError: files are missing, or the app is no longer there.
        """
        namespace, _, name = job.app.partition("/")

        def link(parameter: str, path: Any) -> str:
            return links.add(job.task_id, parameter, Path(path))

        if namespace == NAMESPACE:
            found = self._user_apps.all().get(name)
            if found is None:
                raise ApiError("not_found", f"The workflow of {job.app} is no longer there.")
            return fill_user_app(found, job.values, link, prefix)
        files = choose(name, job.values, self._miniature, reporter)
        values = dict(job.values)
        for parameter in APPS[name].params:
            if parameter.kind == "file" and values.get(parameter.name):
                values[parameter.name] = link(parameter.name, values[parameter.name])
        return fill(name, values, files, f"{prefix}/video")


def is_slow(job: Job) -> bool:
    """Whether something has to be downloaded before a job can be queued."""
    return job.app == f"{PUBLISHER}/{I2V_APP.name}" and is_download(_text_values(job.values))


def _text_values(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str)}
