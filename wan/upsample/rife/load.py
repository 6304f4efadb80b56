"""Find RIFE weights, refuse what cannot work before anything runs, and load the network."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MissingFileError, ModelError, WanError
from ...load.fill import check_fit, fill, on_meta
from ...load.header import PICKLE_SUFFIXES, Header, read_header, read_pickle
from ...residency import Part, Placement
from .layout import ADVICE, Layout, canonical_names, read_layout
from .network import RifeNet
from .network_v3 import RifeV3Net

log = logging.getLogger("wan_local")

SUFFIXES = (".safetensors", ".pth", ".pkl", ".pt")
"""Of files that may be RIFE."""
FOLDERS = ("frame_interpolation", "rife")
"""Where such files are kept below a models folder: ComfyUI's own folder first."""
PACK_FOLDER = Path("ckpts", "rife")
"""Where ComfyUI-Frame-Interpolation keeps them, below its own folder."""
PACK_NAMES = ("ComfyUI-Frame-Interpolation", "comfyui-frame-interpolation")
"""What that pack's folder is called, by hand and by the registry."""
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Rife:
    """A RIFE network ready to use; its weights are read when it first is."""

    path: Path
    """Its file."""
    layout: Layout
    net: Part[Any]
    """Of `RifeNet` or `RifeV3Net`."""

    @property
    def name(self) -> str:
        """File name as the user knows it."""
        return self.path.name


def rife_dtype(device: torch.device) -> torch.dtype:
    """Type of the weights on a device: float32 on the CPU, else float16.

    Not bfloat16: its eight bits hold a colour, but not a place to a fraction of a pixel.
    """
    return torch.float32 if device.type == "cpu" else torch.float16


def find_rife(folders: Iterable[Path]) -> Path:
    """The best RIFE file in some folders and the folders in them.

    Args:
        folders: those that do not exist are passed over.
    Raises:
        MissingFileError: no file can be used; says why each cannot.
    """
    folders = list(folders)
    usable: list[tuple[int, list[int], Path]] = []
    refused: list[str] = []
    for path in _candidates(folders):
        try:
            layout = check_rife(path)
        except WanError as error:
            refused.append(error.what.rstrip("."))
            continue
        usable.append((-layout.rank, _numbers(path), path))
    if usable:
        return max(usable)[2]
    places = ", ".join(f"'{folder}'" for folder in folders) or "any folder"
    raise MissingFileError(
        what=f"No RIFE weights are in {places}" + (f": {'; '.join(refused)}." if refused else "."),
        why="Frames between frames are made by RIFE, and this version downloads nothing itself.",
        fix=f"{ADVICE} Put it into the folder {FOLDERS[0]} or {FOLDERS[1]} of the models folder.",
    )


def check_rife(path: Path) -> Layout:
    """Find out whether a file can be used, from the names and shapes of its tensors.

    Raises:
        MissingFileError: it is not there.
        ModelError: it is damaged, incomplete, of an unknown version or of another kind; the error
            names versions that work.
    """
    return _inspect(path)[0]


def load_rife(path: Path, placement: Placement, dtype: torch.dtype | None = None) -> Rife:
    """A network ready to use.

    Args:
        path: `.pth`, `.pkl`, `.pt` or safetensors, in any spelling of the names.
        placement: who owns it and where it computes.
        dtype: type of the weights; None: `rife_dtype` of the device.
    Raises:
        MissingFileError, ModelError: as `check_rife`.
    """
    layout = check_rife(path)
    dtype = dtype or rife_dtype(placement.device)
    log.info("%s: %s, %s", path.name, layout.label, str(dtype).removeprefix("torch."))
    return Rife(path, layout, Part("RIFE", lambda: _load(path, dtype), placement))


def build_rife(layout: Layout) -> nn.Module:
    """The network with shapes but without memory (meta device)."""
    return on_meta(lambda: (RifeV3Net if layout.halves_only else RifeNet)(layout))


def _load(path: Path, dtype: torch.dtype) -> nn.Module:
    layout, header, names = _inspect(path)
    raw = _read(header)
    # Copied, so that a file which is replaced later does no harm to a network in use.
    tensors = {short: raw[name].clone() for name, short in names.items()}
    return fill(build_rife(layout), tensors, dtype)


def _inspect(path: Path) -> tuple[Layout, Header, dict[str, str]]:
    """Layout, header with canonical names, and the canonical name by that in the file."""
    try:
        header = read_header(path)
    except ModelError as error:
        raise ModelError(error.what, error.why, f"{error.fix} {ADVICE}") from None
    names = canonical_names(header.tensors)
    header = header.renamed({short: header.tensors[name] for name, short in names.items()})
    layout = read_layout(path.name, {name: info.shape for name, info in header.tensors.items()})
    check_fit(header, build_rife(layout))
    for name, info in header.tensors.items():
        if info.dtype not in _FLOATS:
            raise ModelError(
                what=f"'{path.name}' stores '{name}' as {info.dtype}.",
                why="Quantised RIFE weights cannot be read.",
                fix=ADVICE,
            )
    return layout, header, names


def _read(header: Header) -> dict[str, Tensor]:
    from safetensors import safe_open

    if header.path.suffix in PICKLE_SUFFIXES:
        return read_pickle(header.path)
    with safe_open(header.path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _candidates(folders: list[Path]) -> list[Path]:
    found = [p for f in folders for p in f.rglob("*") if p.suffix in SUFFIXES and p.is_file()]
    return list(dict.fromkeys(found))


def _numbers(path: Path) -> list[int]:
    """Newer versions have larger numbers in their names: rife_v4.26 after rife_v4.25."""
    return [int(digits) for digits in re.findall(r"\d+", path.stem)]
