"""Add LoRAs to a model."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from pathlib import Path

from ...deltas import WeightPatch
from ...errors import InputError
from ...payloads import WanModel
from ...progress import Reporter, Silent
from .patch import plan_lora, read_deltas, read_lora_header
from .targets import model_targets


def apply_lora(
    model: WanModel,
    path: Path,
    multiplier: float = 1.0,
    reporter: Reporter | None = None,
    allow_pickle: bool = False,
) -> WanModel:
    """The model with a LoRA on its transformer; several are added one after the other.

    The model given stays what it was, and both share the weights in memory: those of the LoRA are
    put on when the new model's transformer is used, and taken off when the old one's is.

    Args:
        model: may have LoRAs already.
        path: a LoRA file; see `names` for the spellings that are read.
        multiplier: of all changes; negative turns them round, 0 leaves the model exactly as it is.
        reporter: told how many tensors were applied, and which first ones were not.
        allow_pickle: see `read_lora_header`.
    Raises:
        InputError: the multiplier is no finite number.
        MissingFileError: the file is not there.
        ModelError: it is no LoRA, of a format that cannot be applied, or does not fit the model.
    Source of the formula: W + multiplier * (alpha / rank) * up @ down, kohya-ss/sd-scripts
    networks/lora.py; without alpha the factors are taken as they are.
    """
    reporter = reporter or Silent()
    path = Path(path)
    if isinstance(multiplier, bool) or not isfinite(multiplier):
        raise InputError(
            what=f"lora_multiplier is {multiplier}.",
            why="Every change of the LoRA is multiplied by it.",
            fix="Use a number such as 1.0; 0 switches the LoRA off.",
        )
    header = read_lora_header(path, allow_pickle)
    plan = plan_lora(header, model_targets(model.variant, model.config), model.name)
    reporter.note(f"{plan.report.describe()}, multiplier {multiplier:g}")
    warning = plan.report.warning()
    if warning:
        reporter.note(warning)
    if multiplier == 0:
        return model
    stat = path.stat()
    identity = (str(path.resolve()), stat.st_mtime_ns, stat.st_size)
    patch = WeightPatch(header.name, identity, float(multiplier), read_deltas(plan))
    return replace(model, transformer=model.transformer.patched(patch))
