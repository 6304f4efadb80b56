"""Which files the loader offers, and what a choice among them means."""

from functools import lru_cache
from pathlib import Path

import torch

from ..wan.errors import MissingFileError, WanError
from ..wan.load.catalog import NEEDS, CatalogFile, all_files
from ..wan.load.download import download
from ..wan.load.files import KINDS, PARTS, ModelFiles, find_files, gather_files
from ..wan.load.header import read_header
from ..wan.load.inspect import may_serve
from ..wan.load.transformer import check_transformer
from ..wan.miniatures import MINI, TINY, Miniature
from ..wan.payloads import Variant
from . import host
from .host_progress import NodeReporter

AUTO = "auto"
# What comes with the pack. Names are in saved graphs: they stay.
_MINIATURES = {
    "mini (trained miniature, for a try without a download)": (MINI, Variant.I2V),
    "mini Animate (trained miniature, for a try without a download)": (MINI, Variant.ANIMATE),
    "tiny (random weights, for a try without a download)": (TINY, Variant.I2V),
    "tiny Animate (random weights, for a try without a download)": (TINY, Variant.ANIMATE),
}
PRECISIONS = {
    AUTO: None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}
# ComfyUI's folder key of each part.
_KEYS = {
    "transformer": "diffusion_models",
    "vae": "vae",
    "text_encoder": "text_encoders",
    "image_encoder": "clip_vision",
}
# Keys of our own for GGUF files in the same folders, which ComfyUI's keys do not list; older names
# of the folders; and the key that another pack may have made for such files.
_GGUF_KEYS = {
    "transformer": ("wan_gguf_models", {"diffusion_models", "unet"}, "unet_gguf"),
    "text_encoder": ("wan_gguf_encoders", {"text_encoders", "clip"}, "clip_gguf"),
}
_KNOWN_FILES = 4096


def listed(widget: str) -> list[str]:
    """The options of one of the loader's drop-downs: files that may serve there."""
    part = "transformer" if widget == "model" else widget
    names = [name for name in _names(part) if _may_serve(part, name)]
    if widget == "model":
        names += host.model_folders()
        return [*names, *([] if names else [nothing_found(part)]), *_MINIATURES]
    return [AUTO, *names, *([] if names else [nothing_found(part)])]


def nothing_found(part: str) -> str:
    """The option that stands where nothing fits; says what to put where."""
    file = _usual_file(part)
    return f"(none found: put {file.name} into models/{file.folder})"


def miniature_option(name: str, variant: Variant) -> str:
    """The option that stands for a miniature.

    Args:
        name: "mini" or "tiny".
        variant: which of its models.
    """
    return next(o for o, meaning in _MINIATURES.items() if meaning == (name, variant))


def default_model() -> str:
    """What a new loader starts with: the first file, or a miniature."""
    options = listed("model")
    return next((name for name in options if not name.startswith("(")), options[-1])


def check_model(model: str, is_fetched: bool = False) -> None:
    """Find out cheaply whether the chosen model can be loaded at all: only headers are read.

    Args:
        model: as it was chosen.
        is_fetched: whether a file of the catalog that is not there will be downloaded.
    Raises:
        MissingFileError: it is not there, or its folder lacks a part.
        ModelError: it is of another kind, damaged or quantised.
    """
    folder = host.model_folders().get(model)
    if folder is not None:
        find_files(folder)
    elif model not in _MINIATURES and not (is_fetched and _in_catalog(model)):
        check_transformer(_chosen({"transformer": model})["transformer"])


def find_model_files(model: str, text_encoder: str, vae: str, image_encoder: str) -> ModelFiles:
    """The files that the loader's four choices stand for.

    Raises:
        MissingFileError: names every file that is not there.
        ModelError: a file cannot serve, or several could.
    """
    names = {"text_encoder": text_encoder, "vae": vae, "image_encoder": image_encoder}
    names = {part: name for part, name in names.items() if name != AUTO}
    if model in _MINIATURES:
        miniature, variant = _MINIATURES[model]
        return Miniature(miniature).files(variant).replacing(**_chosen(names))
    folder = host.model_folders().get(model)
    if folder is not None:
        return find_files(folder).replacing(**_chosen(names))
    chosen = _chosen({"transformer": model, **names})
    return gather_files({p: [chosen[p]] if p in chosen else _paths(p) for p in PARTS})


def fetch_missing(
    model: str, text_encoder: str, vae: str, image_encoder: str, reporter: NodeReporter
) -> None:
    """Download the chosen model and what stands at "auto", where nothing is there.

    Files go to the folder that ComfyUI has for their kind. Other choices that are not
    there never come here: the host refuses what its drop-downs do not list.

    Args:
        model, text_encoder, vae, image_encoder: as they were chosen.
        reporter: follows, and cancels.
    Raises:
        UnavailableError, OutputError, ModelError: see `download`.
    """
    if model in _MINIATURES or model in host.model_folders():
        return
    wanted = [_in_catalog(model)] if _path("transformer", model) is None else []
    parts = {"text_encoder": text_encoder, "vae": vae, "image_encoder": image_encoder}
    for part, name in parts.items():
        if name == AUTO and not any(_may_serve(part, found) for found in _names(part)):
            wanted.append(_usual_file(part))
    for file in filter(None, wanted):
        folders = host.folders_of(file.folder)
        # ComfyUI may name an older folder first, models/unet before models/diffusion_models
        folder = next((f for f in folders if f.name == file.folder), folders[0])
        download(file, folder, reporter)


def _usual_file(part: str) -> CatalogFile:
    return next(n for needs in NEEDS.values() for n in needs if n.part == part).files[0]


def _in_catalog(name: str) -> CatalogFile | None:
    return next((file for file in all_files() if file.name == name.replace("\\", "/")), None)


def _names(part: str) -> list[str]:
    """Names under ComfyUI's key, and GGUF files in the same folders."""
    names = host.model_files(_KEYS[part])
    if part in _GGUF_KEYS:
        names += [name for name in host.model_files(_gguf_key(part)) if name not in names]
    return names


def _gguf_key(part: str) -> str:
    key, folders, foreign = _GGUF_KEYS[part]
    more = host.folders_if_known(foreign)
    host.own_folders(key, folders, like=_KEYS[part], suffix=".gguf", more=more)
    return key


def _path(part: str, name: str) -> Path | None:
    found = host.model_path(_KEYS[part], name)
    if found is None and part in _GGUF_KEYS:
        found = host.model_path(_gguf_key(part), name)
    return found


def _may_serve(part: str, name: str) -> bool:
    path = _path(part, name)
    if path is None:
        return False
    try:
        stat = path.stat()
    except OSError:  # a link that leads nowhere
        return True
    return _may_file_serve(part, path, stat.st_size, stat.st_mtime_ns)


@lru_cache(_KNOWN_FILES)  # asked at every look at the page
def _may_file_serve(part: str, path: Path, size: int, modified: int) -> bool:
    try:
        return may_serve(read_header(path), KINDS[part])
    except WanError:
        return True  # damaged: choosing it tells how


def _paths(part: str) -> list[Path]:
    found = (_path(part, name) for name in _names(part))
    return [path for path in found if path is not None]


def _chosen(names: dict[str, str]) -> dict[str, Path]:
    """Paths of chosen files by part."""
    found = {part: _path(part, name) for part, name in names.items()}
    missing = [
        names[part] if names[part].startswith("(") else f"{names[part]} in models/{_KEYS[part]}"
        for part in names
        if found[part] is None
    ]
    if missing:
        is_known = any(_in_catalog(names[part]) for part in names if found[part] is None)
        fetch = " Or switch download on in Wan Model Loader." if is_known else ""
        raise MissingFileError(
            what=f"Not there: {'; '.join(missing)}.",
            why="The graph asks for these files.",
            fix="Put them there and press R, or choose others in Wan Model Loader." + fetch,
        )
    return {part: path for part, path in found.items() if path is not None}
