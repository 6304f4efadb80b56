"""Which of the files that an app needs are there, and what is wrong with those that are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import WanError
from ..load.catalog import NEEDS, VARIANTS, CatalogFile, Need
from ..load.companions import Companions, find_companions
from ..load.files import COMFY_FOLDERS, KINDS, weight_files
from ..load.header import read_header
from ..load.inspect import Kind, expect, find_variant
from ..payloads import Variant
from ..preprocess.pose.onnx_file import data_files
from ..upsample.rife.load import FOLDERS, check_rife, find_rife


@dataclass(frozen=True)
class Presence:
    """How it stands with one need of an app."""

    need: Need
    found: Path | None
    """A file or folder that serves; None: nothing does."""
    about: str = ""
    """What it is, in words."""
    problems: tuple[str, ...] = ()
    """Files that could have served, and why each does not."""

    @property
    def is_missing(self) -> bool:
        """Whether the app cannot run without."""
        return self.found is None and self.need.is_needed

    def files(self) -> tuple[CatalogFile, ...]:
        """What would have to be fetched."""
        return self.need.files if self.need.is_set else self.need.files[:1]


def models_folder(folder: Path) -> Path:
    """The models folder of a ComfyUI, given either of both."""
    inner = folder / "models"
    return inner if inner.is_dir() and not (folder / "diffusion_models").is_dir() else folder


def check_app(app: str, models: Path) -> list[Presence]:
    """Look for everything an app needs. Only headers are read.

    Args:
        app: name of the app.
        models: a ComfyUI models folder.
    """
    companions = find_companions(models)
    return [_check(need, models, VARIANTS[app], companions) for need in NEEDS[app]]


def _check(
    need: Need, models: Path, wanted: tuple[Variant, ...], companions: Companions
) -> Presence:
    if need.part in KINDS:
        return _check_part(need, models, wanted)
    if need.part == "rife":
        return _check_rife(need, models)
    path = getattr(companions, need.part)
    problem = _problem_of(path) if path else ""
    return Presence(need, None if problem else path, problems=(problem,) if problem else ())


def _check_part(need: Need, models: Path, wanted: tuple[Variant, ...]) -> Presence:
    kind = KINDS[need.part]
    problems: list[str] = []
    folders = (models / folder for folder in COMFY_FOLDERS[need.part])
    for path in (path for folder in folders for path in weight_files(folder)):
        try:
            identity = expect(read_header(path), kind)
            variant = find_variant(identity) if kind is Kind.TRANSFORMER else None
        except WanError as error:
            problems.append(error.what)
            continue
        if variant is None or variant in wanted:
            about = (variant.value if variant else "", identity.storage)
            return Presence(need, path, ", ".join(filter(None, about)))
    return Presence(need, None, problems=tuple(problems))


def _check_rife(need: Need, models: Path) -> Presence:
    try:
        path = find_rife([models / name for name in FOLDERS])
        return Presence(need, path, check_rife(path).version)
    except WanError:
        return Presence(need, None)


def _problem_of(path: Path) -> str:
    """What is wrong with a companion; empty: nothing that its header tells."""
    try:
        if path.suffix == ".onnx":
            lost = [name for name in data_files(path) if not (path.parent / name).is_file()]
            return f"'{path.name}' lacks its data file {lost[0]}." if lost else ""
        for file in path.glob("*.safetensors") if path.is_dir() else [path]:
            read_header(file)
    except WanError as error:
        return error.what
    except (OSError, ValueError, IndexError) as error:
        return f"'{path.name}' is damaged ({error})."
    return ""
