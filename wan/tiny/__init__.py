"""Random-weight miniatures of the real models: every path runs, every picture is noise."""

from __future__ import annotations

from .build import TINY_VERSION, build_tiny, ensure_tiny
from .configs import MINIMUMS
from .files import default_folder, tiny_files, tiny_rife_folder
from .onnx import tiny_pose_files

__all__ = [
    "MINIMUMS",
    "TINY_VERSION",
    "build_tiny",
    "default_folder",
    "ensure_tiny",
    "tiny_files",
    "tiny_pose_files",
    "tiny_rife_folder",
]
