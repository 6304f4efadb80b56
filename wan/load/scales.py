"""What fp8 files carry beside their weights: scales in two spellings, and marks.

ComfyUI up to 0.3 and kijai's files: `scaled_fp8` once and `X.scale_weight` for each layer.
ComfyUI from 0.12 and LightX2V: `X.weight_scale`, with `X.comfy_quant` that names the format.
Either way weight = fp8 * scale, with one scale for the layer or one for each row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import TypeVar

from torch import Tensor

from ..errors import ModelError
from ..quantised import FP8
from .header import Header, TensorInfo

V = TypeVar("V", Tensor, TensorInfo)

FP8_TYPES = {"F8_E4M3": "fp8 (e4m3)", "F8_E5M2": "fp8 (e5m2)"}
_SCALES = (".scale_weight", ".weight_scale")
# For products of fp8 matrices, which are not used here, and the name of the format.
_SPENT = (".scale_input", ".input_scale", ".comfy_quant")
_FORMAT = ".comfy_quant"
_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_MARK = "scaled_fp8"
_LOOKED_AT = 4
_FULL = 0.75
_OTHER_FILE = "Choose the bf16, fp16 or a plain fp8 file of the same model."


def split_scales(entries: Mapping[str, V]) -> tuple[dict[str, V], dict[str, V]]:
    """Part a file's tensors, or their descriptions, into weights and scales.

    Args:
        entries: by name, without a prefix.
    Returns:
        The weights by name, and the scales by the name of the weight they belong to.
    """
    weights: dict[str, V] = {}
    scales: dict[str, V] = {}
    for name, value in entries.items():
        ending = next((end for end in _SCALES if name.endswith(end)), None)
        if ending:
            scales[name.removesuffix(ending) + ".weight"] = value
        elif name != _MARK and not name.endswith(_SPENT):
            weights[name] = value
    return weights, scales


def check_scales(header: Header) -> str:
    """Make sure that every scaled weight has its scale, and one that can be applied.

    Args:
        header: without a prefix, as the file has it.
    Returns:
        What the file is called for the way it is stored; empty: not quantised.
    Raises:
        ModelError: scales are missing, belong to nothing, or are of another format.
    """
    weights, scales = split_scales(header.tensors)
    lonely = [name for name in scales if name not in weights]
    if lonely:
        raise _damaged(header, f"{len(lonely)} scales belong to no weight, first of '{lonely[0]}'")
    small = {n: t for n, t in weights.items() if t.dtype in FP8_TYPES and len(t.shape) > 1}
    is_marked = _MARK in header.tensors or any(n.endswith(_FORMAT) for n in header.tensors)
    if scales or is_marked:
        missing = [name for name in small if name not in scales]
        if missing:
            raise ModelError(
                what=f"'{header.name}' is scaled fp8, but {len(missing)} of {len(small)} fp8 "
                f"weights have no scale, first '{missing[0]}'.",
                why="Without its scale a weight is many times too large: the video would be noise.",
                fix=f"Download the file again. {_OTHER_FILE}",
            )
    for name, scale in scales.items():
        _check_shape(header, name, weights[name], scale)
    kinds = {FP8_TYPES[t.dtype] for t in weights.values() if t.dtype in FP8_TYPES}
    if not kinds:
        return ""
    return f"{'scaled ' if scales else ''}{' and '.join(sorted(kinds))}"


def check_formats(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Make sure that the formats a file names itself are those that are applied.

    Args:
        name: of the file, for the error.
        tensors: without a prefix.
    Raises:
        ModelError: one is not.
    """
    for key, tensor in tensors.items():
        if not key.endswith(_FORMAT):
            continue
        try:
            found = json.loads(bytes(tensor.flatten().tolist()))["format"]
        except (ValueError, KeyError, TypeError):
            found = "none that can be read"
        if found not in _FORMATS:
            raise ModelError(
                what=f"'{name}' is quantised: '{key}' names the format {found!r}.",
                why=f"The formats that can be applied are {' and '.join(_FORMATS)}.",
                fix=_OTHER_FILE,
            )


def expect_plain(name: str, weights: Mapping[str, Tensor]) -> None:
    """Notice that scales were lost: scaled weights fill the range of their type, plain ones do not.

    Args:
        name: of the file, for the error.
        weights: fp8 matrices without a scale; a few are looked at.
    Raises:
        ModelError: they must have had scales.
    """
    looked = [t for t in weights.values() if t.dtype in FP8 and t.ndim > 1][:_LOOKED_AT]
    if not looked:
        return
    import torch

    largest = min(float(t.float().abs().max()) / torch.finfo(t.dtype).max for t in looked)
    if largest >= _FULL:
        raise ModelError(
            what=f"'{name}' has fp8 weights without scales, which fill the whole range of fp8.",
            why="Such numbers were divided by scales that the file has lost: plain weights are far "
            "smaller.",
            fix=f"Download the file again. {_OTHER_FILE}",
        )


def _check_shape(header: Header, name: str, weight: TensorInfo, scale: TensorInfo) -> None:
    rows = weight.shape[:1]
    if scale.dtype not in ("F32", "F16", "BF16"):
        raise _damaged(header, f"the scale of '{name}' is of type {scale.dtype}")
    is_whole, is_by_row = prod(scale.shape) == 1, scale.shape in (rows, (*rows, 1))
    if not is_whole and not (is_by_row and len(weight.shape) == 2):
        shapes = f"{list(scale.shape)} for a weight of {list(weight.shape)}"
        raise _damaged(header, f"the scale of '{name}' is {shapes}")


def _damaged(header: Header, reason: str) -> ModelError:
    return ModelError(
        what=f"'{header.name}' is quantised in another way than this pack knows: {reason}.",
        why="fp8 weights with one scale for the layer or one for each row can be read.",
        fix=_OTHER_FILE,
    )
