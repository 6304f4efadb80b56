"""Which files the loader offers, and what a choice among them means."""

from pathlib import Path

import torch

from ..wan.errors import MissingFileError
from ..wan.load.files import PARTS, ModelFiles, find_files, gather_files
from ..wan.payloads import Variant
from ..wan.tiny import default_folder, ensure_tiny, tiny_files
from . import host

AUTO = "auto"
TINY = "tiny (random weights, for a try without a download)"
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
        return [*host.model_files("diffusion_models"), *host.model_folders(), TINY]
    return [AUTO, *host.model_files(_KEYS[widget])]


def find_model_files(model: str, text_encoder: str, vae: str, image_encoder: str) -> ModelFiles:
    """The files that the loader's four choices stand for.

    Raises:
        MissingFileError: names every file that is not there.
        ModelError: a file cannot serve, or several could.
    """
    chosen = {"text_encoder": text_encoder, "vae": vae, "image_encoder": image_encoder}
    named = {part: _path(part, name) for part, name in chosen.items() if name != AUTO}
    if model == TINY:
        files = tiny_files(ensure_tiny(default_folder()), Variant.I2V)
        return files.replacing(**named)
    folder = host.model_folders().get(model)
    if folder is not None:
        return find_files(folder).replacing(**named)
    named["transformer"] = _path("transformer", model)
    return gather_files({p: [named[p]] if p in named else _paths(p) for p in PARTS})


def _paths(part: str) -> list[Path]:
    found = (host.model_path(_KEYS[part], name) for name in host.model_files(_KEYS[part]))
    return [path for path in found if path is not None]


def _path(part: str, name: str) -> Path:
    key = _KEYS[part]
    path = host.model_path(key, name)
    if path is None:
        raise MissingFileError(
            what=f"{name} is not in models/{key}.",
            why=f"It was chosen as the {part.replace('_', ' ')}.",
            fix=f"Put the file into models/{key} and press R, or choose another one.",
        )
    return path
