"""The models that come with the pack, by the names that stand where a folder of weights would.

"mini" is trained: a Wan of a few megabytes whose videos follow picture, prompt and pose. "tiny" has
random weights, for tests of everything that needs no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .load.catalog import VARIANTS
from .load.files import ModelFiles, find_files
from .params import App
from .payloads import MINIATURE_NOTICE, Variant
from .tiny import MINIMUMS, default_folder, ensure_tiny, tiny_files, tiny_rife_folder

MINI, TINY = "mini", "tiny"
DEFAULT = MINI
"""What is used where nothing is named."""
CHOICES = f"{MINI}|{TINY}|DIR"
MINI_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "wan-mini"
_FOLDERS = {Variant.I2V: "i2v", Variant.ANIMATE: "animate"}
_LORAS = "loras"


@dataclass(frozen=True)
class Limits:
    """What a miniature's model card says of an app's parameters, by their names."""

    defaults: Mapping[str, Any]
    """What it was trained for."""
    minimums: Mapping[str, float]
    """Below those of the app's page; higher ones are ignored."""


@dataclass(frozen=True)
class Miniature:
    """One of the two sets."""

    name: str

    def files(self, variant: Variant) -> ModelFiles:
        """Where the parts of one model are; of "tiny" they are made first if need be.

        Args:
            variant: image to video or character animation.
        """
        if self.name == MINI:
            return find_files(MINI_FOLDER / _FOLDERS[variant])
        return tiny_files(ensure_tiny(default_folder()), variant)

    def app_files(self, app: str) -> ModelFiles:
        """The files that serve an app, by the app's name."""
        return self.files(VARIANTS[app][0])

    def adapt(self, app: App) -> App:
        """An app with this miniature's defaults, and its page's ranges widened downward."""
        limits = self._limits(app)
        return app.adapted(limits.defaults, limits.minimums, f"{app.summary} {MINIATURE_NOTICE}")

    def _limits(self, app: App) -> Limits:
        if self.name == TINY:
            return Limits({}, MINIMUMS)
        return read_limits(MINI_FOLDER / _FOLDERS[VARIANTS[app.name][0]])

    @property
    def companions(self) -> Path:
        """A ComfyUI models folder with the pose models that see the drawn puppet."""
        return ensure_tiny(default_folder()) / "comfyui"

    @property
    def loras(self) -> list[Path]:
        """Folders of LoRAs that fit."""
        folder = (MINI_FOLDER if self.name == MINI else self.companions) / _LORAS
        return [folder] if folder.is_dir() else []

    @property
    def rife(self) -> Path:
        """The folder of a random RIFE whose frames stay frames."""
        return tiny_rife_folder(ensure_tiny(default_folder()))


def find_miniature(models: str) -> Miniature | None:
    """The set of that name, or None: then `models` is a folder of weights."""
    return Miniature(models) if models in (MINI, TINY) else None


def adapted(models: str, app: App) -> App:
    """An app as the given models allow: of a folder of weights as it is.

    Args:
        models: "mini", "tiny" or a folder of weights.
        app: one of `wan.params.APPS`.
    """
    miniature = find_miniature(models)
    return miniature.adapt(app) if miniature else app


@lru_cache
def read_limits(folder: Path) -> Limits:
    """What a model card says below `wan_local` in its head.

    Args:
        folder: with a README.md.
    """
    from huggingface_hub import ModelCard

    said = ModelCard.load(folder / "README.md").data.to_dict()["wan_local"]
    return Limits(said.get("defaults", {}), said.get("minimums", {}))
