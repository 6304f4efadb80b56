"""From a LoRA file and a model to the changes of the model's parameters.

Everything is decided from the header first: what each tensor is for, what nothing has a use for,
and whether the sizes meet. Only then are tensors read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ...deltas import Delta, Full, LowRank
from ...errors import ModelError, WanError
from ..header import PICKLE_SUFFIXES, Header, read_header, read_pickle
from ..inspect import identify
from .names import Role, other_format, owner_of, parse_name
from .targets import Target, Targets, find_target

SUFFIX = ".safetensors"
_PATCH_EMBEDDING = "patch_embedding.weight"
_SHOWN = 3


@dataclass(frozen=True)
class LoraReport:
    """How much of a LoRA a model has a use for."""

    name: str
    """Of the file."""
    total: int
    """Tensors in the file."""
    unused: tuple[str, ...]
    """Names of the tensors that change nothing."""

    @property
    def applied(self) -> int:
        """Tensors that change the model."""
        return self.total - len(self.unused)

    def describe(self) -> str:
        """One line for the user."""
        return f"{self.name}: {self.applied} of {self.total} tensors applied"

    def warning(self) -> str | None:
        """One line about the unused tensors, if there are any."""
        if not self.unused:
            return None
        first = ", ".join(self.unused[:_SHOWN])
        more = ", ..." if len(self.unused) > _SHOWN else ""
        owner = owner_of(self.unused)
        reason = f" (of {owner})" if owner else ""
        return f"{self.name}: {len(self.unused)} tensors have no use here{reason}: {first}{more}"


class Change(NamedTuple):
    """One change of one target, by the names of the tensors it is made of."""

    target: Target
    tensors: dict[Role, str]


@dataclass(frozen=True)
class LoraPlan:
    """What will be read from a file, checked against a model."""

    header: Header
    changes: tuple[Change, ...]
    report: LoraReport


def read_lora_header(path: Path, allow_pickle: bool = False) -> Header:
    """Names and shapes of a LoRA file.

    Args:
        path: a `.safetensors` file.
        allow_pickle: also read PyTorch files (`.ckpt`, `.pth`), without running code in them.
    Raises:
        MissingFileError: it is not there.
        ModelError: it is damaged, no LoRA, or of a format that cannot be applied.
    """
    path = Path(path)
    if path.suffix in PICKLE_SUFFIXES and not allow_pickle:
        raise ModelError(
            what=f"'{path.name}' is a PyTorch file.",
            why="Such files can carry code, so LoRAs are read as .safetensors only.",
            fix="Take the .safetensors version of the LoRA.",
        )
    header = read_header(path)
    found = other_format(header.tensors)
    if found:
        raise ModelError(
            what=f"'{header.name}' is {found}.",
            why="Only LoRAs of two factors (lora_down and lora_up, or lora_A and lora_B) and plain "
            "differences (diff, diff_b) can be applied.",
            fix="Take the LoRA version, or one converted to it.",
        )
    if not any(parse_name(name) for name in header.tensors):
        raise _no_lora(header)
    return header


def plan_lora(header: Header, targets: Targets, model_name: str) -> LoraPlan:
    """Decide what every tensor of a LoRA is for.

    Args:
        header: from `read_lora_header`.
        targets: the model's, from `model_targets`.
        model_name: for error texts.
    Raises:
        ModelError: nothing fits, sizes do not meet, or half of a pair of factors is missing.
    """
    changes: list[Change] = []
    used: set[str] = set()
    for module, tensors in _group(header).items():
        for change in _changes(header, module, tensors, targets):
            _expect_pair(header, change)
            if _fits(header, change, model_name):
                changes.append(change)
                used.update(change.tensors.values())
    unused = tuple(name for name in header.tensors if name not in used)
    if not changes:
        raise _nothing_applied(header, model_name)
    return LoraPlan(header, tuple(changes), LoraReport(header.name, len(header.tensors), unused))


def read_deltas(plan: LoraPlan) -> dict[str, list[Delta]]:
    """Read the tensors of a plan: changes by parameter name. Factors stay factors."""
    deltas: dict[str, list[Delta]] = {}
    tensors = _read(plan)
    for target, roles in plan.changes:
        count = len(target.parameters)
        whole = roles.get(Role.UP) or roles.get(Role.DIFF) or roles[Role.DIFF_BIAS]
        for parameter, part in zip(target.parameters, tensors[whole].chunk(count), strict=True):
            delta: Delta = Full(part)
            if Role.UP in roles:
                alpha = roles.get(Role.ALPHA)
                scale = None if alpha is None else float(tensors[alpha])
                delta = LowRank(part, tensors[roles[Role.DOWN]], scale)
            deltas.setdefault(parameter, []).append(delta)
    return deltas


def _read(plan: LoraPlan) -> dict[str, Tensor]:
    from safetensors import safe_open

    wanted = {name for change in plan.changes for name in change.tensors.values()}
    if plan.header.path.suffix in PICKLE_SUFFIXES:
        return {n: t for n, t in read_pickle(plan.header.path).items() if n in wanted}
    with safe_open(plan.header.path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in wanted}


def _group(header: Header) -> dict[str, dict[Role, str]]:
    """Tensor names by module and role."""
    groups: dict[str, dict[Role, str]] = {}
    for name in header.tensors:
        piece = parse_name(name)
        if piece is None:
            continue
        roles = groups.setdefault(piece.module, {})
        if piece.role in roles:
            raise ModelError(
                what=f"'{header.name}' has two tensors for the {piece.role.value} of "
                f"'{piece.module}': '{roles[piece.role]}' and '{name}'.",
                why="It holds several LoRAs, and which of them is meant cannot be told.",
                fix="Save the LoRAs as separate files.",
            )
        roles[piece.role] = name
    return groups


def _changes(
    header: Header, module: str, tensors: Mapping[Role, str], targets: Targets
) -> Iterator[Change]:
    """The changes of one module that have a target; `diff_m` never has one."""
    factors = {r: tensors[r] for r in (Role.UP, Role.DOWN, Role.ALPHA) if r in tensors}
    weight, bias = (find_target(targets, module, kind) for kind in ("weight", "bias"))
    if weight and (Role.UP in factors or Role.DOWN in factors):
        yield Change(weight, factors)
    if weight and Role.DIFF in tensors:
        yield Change(weight, {Role.DIFF: tensors[Role.DIFF]})
    if bias and Role.DIFF_BIAS in tensors:
        yield Change(bias, {Role.DIFF_BIAS: tensors[Role.DIFF_BIAS]})


def _expect_pair(header: Header, change: Change) -> None:
    roles = change.tensors
    if (Role.UP in roles) == (Role.DOWN in roles):
        return
    present, absent = (Role.UP, Role.DOWN) if Role.UP in roles else (Role.DOWN, Role.UP)
    raise ModelError(
        what=f"'{header.name}' has '{roles[present]}' but not the {absent.value} to it.",
        why="A change is the product of both factors.",
        fix="The file is incomplete: download it again, or choose another one.",
    )


def _fits(header: Header, change: Change, model_name: str) -> bool:
    """Whether the sizes meet; False where they cannot and that is harmless.

    Raises:
        ModelError: the LoRA is for a model of another size.
    """
    target, roles = change
    wanted = target.stacked_shape
    shapes = {role: header.tensors[name].shape for role, name in roles.items()}
    if Role.UP in roles:
        up, down = shapes[Role.UP], shapes[Role.DOWN]
        if len(up) > 1 and len(down) > 1 and up[1] == _size(up[1:]) == down[0]:
            found = (up[0], _size(down[1:]))
            if found == (wanted[0], _size(wanted[1:])) and len(wanted) > 1:
                return True
            if _is_other_input(target, found[0], found[1]):
                return False
        given = f"{list(up)} times {list(down)}"
    else:
        (shape,) = shapes.values()
        if tuple(n for n in shape if n != 1) == tuple(n for n in wanted if n != 1):
            return True
        if len(shape) > 1 and _is_other_input(target, shape[0], _size(shape[1:])):
            return False
        given = str(list(shape))
    name = roles.get(Role.UP) or next(iter(roles.values()))
    raise ModelError(
        what=f"'{header.name}' does not fit '{model_name}': '{name}' is {given}, and "
        f"'{target.parameters[0]}' of the model is {list(wanted)}.",
        why="The LoRA was made for a model of another size, for example 1.3B instead of 14B.",
        fix="Choose a LoRA for this model, or the model the LoRA was made for.",
    )


def _is_other_input(target: Target, out: int, inputs: int) -> bool:
    """Text-to-video LoRAs often change the first layer, which takes 16 channels there, not 36."""
    *_, depth, height, width = (1, 1, 1, *target.shape)
    is_first = target.parameters == (_PATCH_EMBEDDING,) and out == target.shape[0]
    return is_first and inputs % (depth * height * width) == 0


def _size(shape: tuple[int, ...]) -> int:
    result = 1
    for length in shape:
        result *= length
    return result


def _no_lora(header: Header) -> ModelError:
    try:
        kind = identify(header).kind.value
    except WanError:
        first = ", ".join(sorted(header.tensors)[:_SHOWN]) or "none"
        kind = f"no LoRA ({len(header.tensors)} tensors, first: {first})"
    return ModelError(
        what=f"'{header.name}' is {kind}.",
        why="A LoRA holds small changes of a model's weights.",
        fix="Choose a LoRA made for Wan 2.1 or 2.2 with 14B parameters.",
    )


def _nothing_applied(header: Header, model_name: str) -> ModelError:
    owner = owner_of(header.tensors)
    first = ", ".join(list(header.tensors)[:_SHOWN])
    return ModelError(
        what=f"Nothing of '{header.name}' fits '{model_name}': 0 of {len(header.tensors)} tensors "
        f"applied (first: {first}).",
        why=f"It is a LoRA for {owner}." if owner else "Its names belong to no part of the model.",
        fix="Choose a LoRA made for Wan 2.1 or 2.2 with 14B parameters.",
    )
