"""The catalog of the service inside ComfyUI: the pack's apps and those of the user."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ...wan.service.catalog import Catalog, CatalogApp, catalog_app
from .apps import AppGraphs
from .user_apps import NAMESPACE, UserApp


@dataclass(frozen=True)
class WorkflowApp(CatalogApp):
    """A workflow of the user."""

    media: dict[str, str] = field(default_factory=dict)
    """What each file must be: image, video or audio."""
    outputs: tuple[str, ...] = ()
    """Names of all results."""

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON schema of `input`, which also says what each file must be."""
        schema = super().input_schema
        for name, kind in self.media.items():
            schema["properties"][name]["contentMediaType"] = f"{kind}/*"
        return schema

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        """JSON schema of `output`."""
        file = super().output_schema["properties"][self.app.output]
        return {"type": "object", "properties": dict.fromkeys(self.outputs, file)}


def make_catalog(graphs: AppGraphs) -> Catalog:
    """All apps; the user's are looked for anew at each look."""
    own = [catalog_app(app, graphs.version(app.name)) for app in graphs.own()]
    return Catalog(own, lambda: [_of_workflow(found) for found in graphs.users()])


def _of_workflow(found: UserApp) -> WorkflowApp:
    return WorkflowApp(
        found.app, found.version, NAMESPACE, media=found.media, outputs=tuple(found.outputs)
    )
