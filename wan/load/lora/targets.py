"""Which parameters of a model the modules of a LoRA mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ...payloads import Variant
from ..keys import to_original, to_standard, transformer_rows
from ..transformer import build_transformer
from .names import flat


class Target(NamedTuple):
    """What one name stands for."""

    parameters: tuple[str, ...]
    """Names in diffusers; several where the authors stack them along axis 0."""
    shape: tuple[int, ...]
    """Of one parameter; those that are stacked are all of one shape."""

    @property
    def stacked_shape(self) -> tuple[int, ...]:
        """Shape of the parameters stacked, as the authors have them."""
        return (self.shape[0] * len(self.parameters), *self.shape[1:])


Targets = Mapping[str, Target]
"""By flat name of the parameter, in the spellings of the authors and of diffusers."""


def model_targets(variant: Variant, config: Mapping[str, Any]) -> Targets:
    """All parameters of a transformer by all their names. Reads no weights."""
    return _targets(variant, json.dumps(config, sort_keys=True))


def find_target(targets: Targets, module: str, kind: str) -> Target | None:
    """The target of a LoRA's module.

    Args:
        module: in any spelling.
        kind: "weight" or "bias".
    """
    found = targets.get(flat(f"{module}.{kind}"))
    if found is None and kind == "weight":
        return targets.get(flat(module))  # tables such as "modulation" are no modules
    return found


@lru_cache(maxsize=4)
def _targets(variant: Variant, config: str) -> Targets:
    module = build_transformer(variant, json.loads(config))
    parameters = {name: tensor.detach() for name, tensor in module.named_parameters()}
    blocks = {
        m[1] for n in parameters if (m := re.match(r"motion_encoder\.res_blocks\.(\d+)\.", n))
    }
    rows = transformer_rows(len(blocks) or 7)
    targets = {flat(n): Target((n,), tuple(t.shape)) for n, t in parameters.items()}
    for name, tensor in to_original(parameters, rows).items():
        standard = to_standard({name: tensor}, rows)
        shape = tuple(next(iter(standard.values())).shape)
        targets[flat(name)] = Target(tuple(standard), shape)
    return targets
