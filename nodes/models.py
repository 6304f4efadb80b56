"""Which files the loader offers, and what a choice among them means."""

from pathlib import Path

import torch

from ..wan.errors import MissingFileError
from ..wan.load.files import PARTS, ModelFiles, find_files, gather_files
from ..wan.load.transformer import check_transformer
from ..wan.payloads import Variant
from ..wan.tiny import default_folder, ensure_tiny, tiny_files
from . import host

AUTO = "auto"
# Random-weight miniatures, for a try without a download.
_TINY = {
    "tiny (random weights, for a try without a download)": Variant.I2V,
    "tiny Animate (random weights, for a try without a download)": Variant.ANIMATE,
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


def listed(widget: str) -> list[str]:
    """The options of one of the loader's drop-downs."""
    if widget == "model":
        return [*host.model_files("diffusion_models"), *host.model_folders(), *_TINY]
    return [AUTO, *host.model_files(_KEYS[widget])]


def check_model(model: str) -> None:
    """Find out cheaply whether the chosen model can be loaded at all: only headers are read.

    Raises:
        MissingFileError: it is not there, or its folder lacks a part.
        ModelError: it is of another kind, damaged or quantised.
    """
    folder = host.model_folders().get(model)
    if folder is not None:
        find_files(folder)
    elif model not in _TINY:
        check_transformer(_chosen({"transformer": model})["transformer"])


def find_model_files(model: str, text_encoder: str, vae: str, image_encoder: str) -> ModelFiles:
    """The files that the loader's four choices stand for.

    Raises:
        MissingFileError: names every file that is not there.
        ModelError: a file cannot serve, or several could.
    """
    names = {"text_encoder": text_encoder, "vae": vae, "image_encoder": image_encoder}
    names = {part: name for part, name in names.items() if name != AUTO}
    if model in _TINY:
        files = tiny_files(ensure_tiny(default_folder()), _TINY[model])
        return files.replacing(**_chosen(names))
    folder = host.model_folders().get(model)
    if folder is not None:
        return find_files(folder).replacing(**_chosen(names))
    chosen = _chosen({"transformer": model, **names})
    return gather_files({p: [chosen[p]] if p in chosen else _paths(p) for p in PARTS})


def _paths(part: str) -> list[Path]:
    found = (host.model_path(_KEYS[part], name) for name in host.model_files(_KEYS[part]))
    return [path for path in found if path is not None]


def _chosen(names: dict[str, str]) -> dict[str, Path]:
    """Paths of chosen files by part."""
    found = {part: host.model_path(_KEYS[part], name) for part, name in names.items()}
    missing = [f"{names[part]} in models/{_KEYS[part]}" for part in names if found[part] is None]
    if missing:
        raise MissingFileError(
            what=f"Not there: {'; '.join(missing)}.",
            why="The graph was saved with these files.",
            fix="Put them there and press R, or choose others in Wan Model Loader.",
        )
    return {part: path for part, path in found.items() if path is not None}
