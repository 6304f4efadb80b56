"""Build a module without memory and put a file's tensors into it.

The module is made on the meta device and its parameters are replaced one by one by views of the
mapped file, so a model that keeps its type costs no copy and one that changes it costs one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..quantised import FP8, Quantisation, QuantisedLinear
from .gguf_file import GGML_TYPES, expect_gguf_package, is_gguf, map_gguf
from .header import PICKLE_SUFFIXES, Header, read_header, read_pickle
from .inspect import Identity, Layout, rows_of
from .keys import drop_unused, standard_names, to_standard
from .scales import check_formats, expect_plain, split_scales

M = TypeVar("M", bound=nn.Module)
log = logging.getLogger("wan_local")

_BLUR = (1.0, 3.0, 3.0, 1.0)  # Wan-Video/Wan2.2 wan/modules/animate/motion_encoder.py, ConvLayer


class Weights(NamedTuple):
    """What a file or set of shards holds, by standard name."""

    tensors: dict[str, Tensor]
    """As they are stored; those of GGML types as uint8 [rows, bytes of a row]."""
    quantised: dict[str, Quantisation]
    """How to read those that are quantised."""


def on_meta(make: Callable[[], M]) -> M:
    """Make a module whose tensors have shapes but no memory."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)


def read_tensors(identity: Identity) -> Weights:
    """All tensors of a file or set of shards, mapped into memory.

    Raises:
        ModelError: a file is damaged, or its fp8 weights cannot be scaled.
        UnavailableError: it is a GGUF file and the package `gguf` is missing.
    """
    raw: dict[str, Tensor] = {}
    ggml: dict[str, str] = {}
    for path in identity.header.files:
        raw.update(_read_file(path))
        if is_gguf(path):
            ggml.update((n, t.dtype) for n, t in read_header(path).tensors.items())
    strip = identity.prefix
    stripped = {name.removeprefix(strip): tensor for name, tensor in raw.items()}
    check_formats(identity.header.name, stripped)
    weights, scales = split_scales(stripped)
    used = drop_unused(weights)
    fp8 = {name: tensor for name, tensor in used.items() if tensor.dtype in FP8}
    expect_plain(identity.header.name, {n: t for n, t in fp8.items() if n not in scales})
    rows = rows_of(identity.kind, used) if identity.layout is Layout.ORIGINAL else ()
    how: dict[str, Quantisation] = {}
    for name in used:
        targets = standard_names(name, rows)
        kind = ggml.get(strip + name, "")
        if kind in GGML_TYPES:
            how.update(dict.fromkeys(targets, Quantisation(ggml=kind)))
        elif name in scales:
            how.update(zip(targets, _scaled(scales[name], len(targets)), strict=True))
        elif name in fp8:
            how.update(dict.fromkeys(targets, Quantisation()))
    return Weights(to_standard(used, rows) if rows else used, how)


def _read_file(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    if path.suffix in PICKLE_SUFFIXES:
        return read_pickle(path)
    if is_gguf(path):
        expect_gguf_package(path.name)
        return map_gguf(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(
            what=f"'{path.name}' cannot be read: {error}.",
            why="Its header and its bytes do not fit each other.",
            fix="Delete the file and download it again.",
        ) from error


def _scaled(scale: Tensor, parts: int) -> list[Quantisation]:
    """The scale of a weight for each of the parts it is split into."""
    if scale.numel() == 1:
        return [Quantisation(factor=float(scale))] * parts
    return [Quantisation(rows=rows.float()) for rows in scale.view(-1, 1).chunk(parts)]


def check_fit(header: Header, module: nn.Module, ignore: Collection[str] = ()) -> None:
    """Make sure that a file has exactly the tensors that a module needs.

    Args:
        header: with standard names.
        module: the module, its names without a `vision_model.` in front.
        ignore: names that the module has and the file need not have.
    Raises:
        ModelError: tensors are missing, left over, or of another shape.
    """
    needed = {name: tuple(t.shape) for name, t in _named(module).items() if name not in ignore}
    found = {name: info.shape for name, info in header.tensors.items()}
    missing = sorted(set(needed) - set(found))
    extra = sorted(set(found) - set(needed))
    other = [name for name in sorted(set(needed) & set(found)) if needed[name] != found[name]]
    problems = [
        f"{len(names)} {what} (first '{names[0]}')"
        for names, what in ((missing, "missing"), (extra, "left over"))
        if names
    ]
    if other:
        name = other[0]
        problems.append(
            f"{len(other)} of another shape (first '{name}': {list(found[name])} instead of "
            f"{list(needed[name])})"
        )
    if problems:
        raise ModelError(
            what=f"'{header.name}' does not fit {type(module).__name__}: of {len(needed)} tensors "
            f"{', '.join(problems)}.",
            why="A model with guessed or dropped weights would run and produce nonsense.",
            fix="Download the file again, or choose the file of another publisher.",
        )


def fill(
    module: M,
    tensors: dict[str, Tensor],
    dtype: torch.dtype,
    keep_float32: Collection[str] = (),
    quantised: Mapping[str, Quantisation] | None = None,
    unpack_fp8: bool = False,
) -> M:
    """Put tensors into a module that was made by `on_meta`.

    Args:
        module: its parameters and constant buffers must have been checked by `check_fit`.
        tensors: by standard name; emptied on the way, so that each is freed once converted.
        dtype: type of the parameters.
        keep_float32: parts of names that stay float32, compared with whole dot-separated pieces
            as diffusers does (`_keep_in_fp32_modules`).
        quantised: how to read those of `tensors` that are quantised. Weights of linear layers
            stay so, unless float32 is to be kept; everything else is small and gets its full size.
        unpack_fp8: give fp8 layers their full size too, for devices that cannot hold float8.
    Returns:
        The module, in eval mode, on the CPU, without gradients.
    """
    prefix, quantised = _prefix(module), quantised or {}
    if unpack_fp8 and any(not how.ggml for how in quantised.values()):
        log.info(
            "%s: its fp8 weights become %s, because the device cannot hold them",
            type(module).__name__,
            str(dtype).removeprefix("torch."),
        )
    for name in list(tensors):
        keep = any(piece in keep_float32 for piece in name.split("."))
        tensor, how = tensors.pop(name), quantised.get(name)
        owner_name, _, leaf = f"{prefix}{name}".rpartition(".")
        owner = module.get_submodule(owner_name)
        if how is not None:
            is_layer = isinstance(owner, nn.Linear) and leaf == "weight"
            is_small = bool(how.ggml) or (tensor.dtype in FP8 and not unpack_fp8)
            if is_layer and is_small and not keep:
                layer = QuantisedLinear(owner, tensor.contiguous(), how)
                module.set_submodule(owner_name, layer)
                continue
            shape = owner.get_parameter(leaf).shape
            tensor = how.decode(tensor, torch.float32 if keep else dtype).reshape(shape)
        tensor = tensor.to(torch.float32 if keep else dtype).contiguous()
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    _restore_buffers(module, dtype)
    lost = [name for name, tensor in _all_tensors(module) if tensor.is_meta]
    if lost:
        raise ModelError(
            what=f"{type(module).__name__} has {len(lost)} tensors that no file fills, first "
            f"'{lost[0]}'.",
            why="This version of diffusers or transformers builds the model in another way than "
            "this pack knows.",
            fix="Install a version that requirements.txt allows and report the one you have.",
        )
    return module.eval()


def _restore_buffers(module: nn.Module, dtype: torch.dtype) -> None:
    """Give the constant buffers, which no file holds, their values."""
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if not buffer.is_meta:
                continue
            if name == "blur_kernel":
                line = torch.tensor(_BLUR)
                kernel = line[None, :] * line[:, None]
                kernel = (kernel / kernel.sum()).to(dtype)  # 64ths: exact in every type
                owner.register_buffer(name, kernel, persistent=False)
            elif name == "position_ids":
                ids = torch.arange(buffer.shape[-1]).expand(buffer.shape).contiguous()
                owner.register_buffer(name, ids, persistent=False)


def _named(module: nn.Module) -> dict[str, Tensor]:
    prefix = _prefix(module)
    return {name.removeprefix(prefix): tensor for name, tensor in module.state_dict().items()}


def _prefix(module: nn.Module) -> str:
    # CLIPVisionModel had an inner module of this name before transformers 5
    return "vision_model." if hasattr(module, "vision_model") else ""


def _all_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]
