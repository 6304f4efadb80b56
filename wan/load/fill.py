"""Build a module without memory and put a file's tensors into it.

The module is made on the meta device and its parameters are replaced one by one by views of the
mapped file, so a model that keeps its type costs no copy and one that changes it costs one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .header import PICKLE_SUFFIXES, Header, read_pickle
from .inspect import Identity, Layout, rows_of
from .keys import drop_unused, to_standard

M = TypeVar("M", bound=nn.Module)

_BLUR = (1.0, 3.0, 3.0, 1.0)  # Wan-Video/Wan2.2 wan/modules/animate/motion_encoder.py, ConvLayer


def on_meta(make: Callable[[], M]) -> M:
    """Make a module whose tensors have shapes but no memory."""
    with torch.device("meta"):
        return make().eval().requires_grad_(False)


def read_tensors(identity: Identity) -> dict[str, Tensor]:
    """All tensors of a file or set of shards, by standard name, mapped into memory."""
    from safetensors import safe_open

    raw: dict[str, Tensor] = {}
    for path in identity.header.files:
        if path.suffix in PICKLE_SUFFIXES:
            raw.update(read_pickle(path))
            continue
        with safe_open(path, framework="pt", device="cpu") as file:
            raw.update((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
    used = drop_unused({n.removeprefix(identity.prefix): tensor for n, tensor in raw.items()})
    if identity.layout is Layout.ORIGINAL:
        used = to_standard(used, rows_of(identity.kind, used))
    return used


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
) -> M:
    """Put tensors into a module that was made by `on_meta`.

    Args:
        module: its parameters and constant buffers must have been checked by `check_fit`.
        tensors: by standard name; emptied on the way, so that each is freed once converted.
        dtype: type of the parameters.
        keep_float32: parts of names that stay float32, compared with whole dot-separated pieces
            as diffusers does (`_keep_in_fp32_modules`).
    Returns:
        The module, in eval mode, on the CPU, without gradients.
    """
    prefix = _prefix(module)
    for name in list(tensors):
        keep = any(piece in keep_float32 for piece in name.split("."))
        tensor = tensors.pop(name).to(torch.float32 if keep else dtype).contiguous()
        owner, _, leaf = f"{prefix}{name}".rpartition(".")
        module.get_submodule(owner)._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
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
