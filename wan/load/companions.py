"""The models that serve a character animation beside the Wan model: found where people keep them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingFileError

_REPOSITORY = "https://huggingface.co/Wan-AI/Wan2.2-Animate-14B/tree/main"
_DEEPEST = 3  # a Diffusers folder may lie in models/diffusers, two below the ComfyUI folder


@dataclass(frozen=True)
class Companions:
    """Files and folders; None where nothing was found."""

    detector: Path | None = None
    """Person detector as ONNX."""
    pose: Path | None = None
    """Whole-body pose model as ONNX."""
    sam2: Path | None = None
    """Folder of a `Sam2VideoModel`."""
    relighting: Path | None = None
    """LoRA that fits a character to the light of a scene."""
    kontext: Path | None = None
    """Diffusers folder of FLUX.1-Kontext."""


@dataclass(frozen=True)
class _Row:
    """Where one of them may be, best first, and where it comes from."""

    patterns: tuple[str, ...]
    """Below a ComfyUI models folder or the folder of the model's authors."""
    purpose: str
    source: str


# Wan-Video/Wan2.2 UserGuider.md and wan_animate_14B.py for the authors' folder; ComfyUI packs keep
# ONNX files in models/detection and SAM2 in models/sam2.
_ROWS: dict[str, _Row] = {
    "detector": _Row(
        (
            "detection/yolov10m.onnx",
            "detection/**/*yolo*.onnx",
            "process_checkpoint/det/yolov10m.onnx",
            "det/yolov10m.onnx",
        ),
        "the person detector finds who moves",
        f"yolov10m.onnx from {_REPOSITORY}/process_checkpoint/det into models/detection",
    ),
    "pose": _Row(
        (
            "detection/**/vitpose[-_]h*.onnx",
            "detection/**/*vitpose*.onnx",
            "process_checkpoint/pose2d/*vitpose*.onnx",
            "pose2d/*vitpose*.onnx",
        ),
        "the pose model measures joints, hands and face",
        f"vitpose_h_wholebody.onnx (all files of it) from {_REPOSITORY}/process_checkpoint/pose2d, "
        "or vitpose-l-wholebody.onnx, into models/detection",
    ),
    "sam2": _Row(
        ("sam2/*/config.json", "process_checkpoint/sam2/*/config.json"),
        "SAM2 cuts the person out of the scene",
        "the folder facebook/sam2-hiera-large of huggingface.co into models/sam2",
    ),
    "relighting": _Row(
        (
            "loras/**/*relight*.safetensors",
            "relighting_lora*/*.safetensors",
            "relighting_lora.safetensors",
            "relighting_lora.ckpt",
        ),
        "the relighting LoRA fits the character to the light of the scene",
        "WanAnimate_relight_lora_fp16.safetensors from "
        "https://huggingface.co/Kijai/WanVideo_comfy/tree/main/LoRAs/Wan22_relight into models/loras",
    ),
    "kontext": _Row(
        (
            "diffusers/*Kontext*/model_index.json",
            "process_checkpoint/*Kontext*/model_index.json",
            "*Kontext*/model_index.json",
        ),
        "FLUX.1-Kontext brings both figures into a standard pose",
        "the Diffusers folder black-forest-labs/FLUX.1-Kontext-dev of huggingface.co into "
        "models/diffusers",
    ),
}


def find_companions(folder: Path) -> Companions:
    """What is there, in or around the folder that holds the Wan model.

    Args:
        folder: a ComfyUI models folder, a Diffusers folder in one, or the authors' folder.
    """
    roots = list(_roots(folder))
    found = {name: _first(roots, row.patterns) for name, row in _ROWS.items()}
    for name in ("sam2", "kontext"):  # known by a file in the folder that is meant
        path = found[name]
        found[name] = path.parent if path is not None else None
    if found["sam2"] is not None and not _is_sam2_video(found["sam2"]):
        found["sam2"] = None
    return Companions(**found)


def require(companions: Companions, names: Sequence[str]) -> None:
    """Refuse to begin without models that a run needs; all that is missing is told at once.

    Args:
        names: fields of `Companions`.
    Raises:
        MissingFileError: one or more are not there.
    """
    missing = [name for name in names if getattr(companions, name) is None]
    if not missing:
        return
    what = "; ".join(_ROWS[name].purpose for name in missing)
    raise MissingFileError(
        what=f"Not found: {', '.join(missing)}.",
        why=f"{what[0].upper()}{what[1:]}.",
        fix="\n".join(f"Download {_ROWS[name].source}." for name in missing),
    )


def _roots(folder: Path) -> Iterator[Path]:
    folder = folder.resolve()
    for root in (folder, *folder.parents[:_DEEPEST]):
        yield root
        yield root / "models"


def _first(roots: Sequence[Path], patterns: Sequence[str]) -> Path | None:
    for root in roots:
        for pattern in patterns:
            match = min(root.glob(pattern), default=None)
            if match is not None:
                return match
    return None


def _is_sam2_video(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text("utf8"))["model_type"] == "sam2_video"
    except (OSError, ValueError, KeyError, TypeError):
        return False
