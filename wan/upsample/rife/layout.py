"""Which RIFE network a file holds, read from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

WORKING = "RIFE 4.7 to 4.26 (also the lite and heavy ones) and RIFE v3 HD"
ADVICE = (
    "Take rife_v4.26.safetensors from https://huggingface.co/Comfy-Org/frame_interpolation, or "
    "rife47.pth, rife49.pth, rife417.pth or rife426.pth if you have one."
)

# Wrappers of training and of other loaders (Practical-RIFE RIFE_HDv3.py, ComfyUI
# nodes_frame_interpolation.py).
_PREFIXES = ("module.", "flownet.")
# Kept in the files and used in training only (Practical-RIFE IFNet_HDv3.py).
_TRAINING = ("teacher.", "caltime.", "block_tea.")
_COARSE_FACTORS = {4: (8, 4, 2, 1), 5: (16, 8, 4, 2, 1)}
# 4.25 lite alone works on other sizes, and only its last width tells (its RIFE_HDv3.py).
_LITE_425 = (192, 128, 96, 64, 24)
_LITE_425_FACTORS = (32, 16, 8, 4, 1)
_V3_FACTORS = (4, 2, 1)

# Versions, best first, by widths of the blocks, groups, encoder (layers, channels) and features
# handed on. The networks of one row are alike (HolyWu/vs-rife, IFNet_HDv3_v4_*.py).
_VERSIONS = {
    ((192, 128, 96, 64, 32), 1, (4, 4), 8): "4.25 or 4.26",
    ((192, 128, 96, 64, 32), 1, (4, 16), 8): "4.26 heavy",
    ((384, 256, 192, 128, 64), 1, (4, 4), 8): "4.25 heavy",
    (_LITE_425, 1, (4, 4), 8): "4.25 lite",
    ((256, 192, 96, 48), 1, (4, 8), 8): "4.21 to 4.23",
    ((192, 128, 64, 32), 1, (4, 4), 8): "4.22 lite",
    ((384, 192, 96, 48), 1, (4, 8), 0): "4.20",
    ((192, 128, 96, 64), 1, (4, 8), 0): "4.10 to 4.19 or 4.24",
    ((192, 128, 96, 64), 2, (4, 8), 0): "4.14 lite",
    ((128, 96, 64, 48), 1, (4, 4), 0): "4.12 to 4.17 lite",
    ((192, 128, 96, 64), 1, (2, 4), 0): "4.7 to 4.9",
}
_UNUSUAL = "4 of an unusual size"
_V3 = "v3 HD"


@dataclass(frozen=True)
class Encoder:
    """The convolutions that give each picture its features."""

    layers: int
    """2 without activations, or 4 with one after each of the first three."""
    width: int
    """Channels inside."""
    channels: int
    """Features per pixel."""


@dataclass(frozen=True)
class Layout:
    """Everything that differs between the networks."""

    version: str
    """What people call it, for example "4.25 or 4.26"."""
    widths: tuple[int, ...]
    """Channels of each block, coarsest first."""
    factors: tuple[int, ...]
    """By how much each block sees the pictures reduced."""
    depth: int = 8
    """Residual convolutions per block; v3 HD has pairs of them."""
    groups: int = 1
    """Of those convolutions."""
    encoder: Encoder | None = None
    """None: v3 HD, which has none."""
    features: int = 0
    """Channels that a block hands to the next, beside flow and mask."""
    planes: int = 6
    """What a block computes per pixel: 4 of flow, 1 of mask, the features, and perhaps 1 unused."""

    @property
    def halves_only(self) -> bool:
        """Whether it knows the middle between two pictures only (v3 HD)."""
        return self.encoder is None

    @property
    def multiple(self) -> int:
        """Both sides must be multiples of this many pixels."""
        # Two strides of 2 follow the reduction. Source of the smaller bounds: i2v.md 9.
        return max(32 if self.halves_only else 64, 4 * self.factors[0])

    @property
    def label(self) -> str:
        """Its name in front of the user."""
        return f"RIFE {self.version}"

    @property
    def rank(self) -> int:
        """0 for the version to prefer, more for others."""
        return [*_VERSIONS.values(), _UNUSUAL, _V3].index(self.version)


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """The name this package gives to each tensor, by its name in a file.

    Prefixes go, the three spellings of the encoder become one, and what only training needs is
    left out.
    """
    found: dict[str, str] = {}
    for name in names:
        short = name
        while short.startswith(_PREFIXES):
            short = short.partition(".")[2]
        if short.startswith(_TRAINING):
            continue
        # ComfyUI keeps the blocks in a list
        found[name] = re.sub(r"^blocks\.(\d+)\.", r"block\1.", short)
    return _rename_encoder(found)


def _rename_encoder(found: dict[str, str]) -> dict[str, str]:
    places = {
        int(m[1]) for short in found.values() if (m := re.match(r"encode\.(\d+)\.weight$", short))
    }
    order = {str(place): f"cnn{i}" for i, place in enumerate(sorted(places))}

    def rename(match: re.Match[str]) -> str:
        return f"encode.{order.get(match[1], match[1])}."

    return {name: re.sub(r"^encode\.(\d+)\.", rename, short) for name, short in found.items()}


def read_layout(file: str, shapes: Shapes) -> Layout:
    """The network that a file holds.

    Args:
        file: its name, for error texts.
        shapes: of its tensors, by canonical name.
    Raises:
        ModelError: none of the networks this package has.
    """
    try:
        layout = _recognise(shapes)
    except (KeyError, IndexError, ZeroDivisionError):  # a tensor is missing, or has no such axis
        layout = None
    if layout is None:
        raise ModelError(
            what=f"'{file}' is {_describe(shapes)}.",
            why=f"Frames are interpolated with {WORKING}.",
            fix=ADVICE,
        )
    return layout


def _recognise(shapes: Shapes) -> Layout | None:
    widths = _widths(shapes)
    if "block0.convblock0.0.0.weight" in shapes and "block0.conv2.2.weight" in shapes:
        return Layout(_V3, widths, _V3_FACTORS) if len(widths) == len(_V3_FACTORS) else None
    if "block0.convblock.0.conv.weight" in shapes and "encode.cnn0.weight" in shapes:
        return _recognise_v4(widths, shapes) if len(widths) in _COARSE_FACTORS else None
    return None


def _widths(shapes: Shapes) -> tuple[int, ...]:
    widths: list[int] = []
    while (name := f"block{len(widths)}.conv0.1.0.weight") in shapes:
        widths.append(shapes[name][0])
    return tuple(widths)


def _recognise_v4(widths: tuple[int, ...], shapes: Shapes) -> Layout | None:
    depth = _count(shapes, "block0.convblock.{}.conv.weight")
    layers = _count(shapes, "encode.cnn{}.weight")
    channels = shapes[f"encode.cnn{layers - 1}.weight"][1]
    # pictures, features of both, time, mask and flow come first
    features = shapes["block1.conv0.0.0.weight"][1] - (6 + 2 * channels + 1 + 1 + 4)
    planes = shapes["block0.lastconv.0.weight"][1] // 4
    groups = widths[0] // shapes["block0.convblock.0.conv.weight"][1]
    if layers not in (2, 4) or groups < 1 or features not in (0, planes - 5):
        return None
    version = _VERSIONS.get((widths, groups, (layers, channels), features), _UNUSUAL)
    factors = _LITE_425_FACTORS if widths == _LITE_425 else _COARSE_FACTORS[len(widths)]
    encoder = Encoder(layers, shapes["encode.cnn0.weight"][0], channels)
    return Layout(version, widths, factors, depth, groups, encoder, features, planes)


def _count(shapes: Shapes, pattern: str) -> int:
    count = 0
    while pattern.format(count) in shapes:
        count += 1
    return count


def _describe(shapes: Shapes) -> str:
    """What a file that cannot be used is, as far as its names tell."""
    if any(name.startswith("extract.extract_sublevels.") for name in shapes):
        return "a FILM model"
    if "block0.convblock0.0.0.weight" in shapes:
        return "RIFE 3.0 to 3.5, or incomplete"
    if "block0.conv0.0.0.weight" not in shapes:
        return "no RIFE network that is known here"
    if any(name.startswith("encode.") for name in shapes):
        return "an unknown or incomplete RIFE 4"
    return "RIFE 4.0 to 4.6, or incomplete"
