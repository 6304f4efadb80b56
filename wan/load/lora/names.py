"""What the tensor names of a LoRA file mean, whoever wrote it.

A name is a module of the model, in one of several spellings, and what the tensor is to it. This
file takes it apart; which parameter of which model is meant is looked up in `targets`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Role(str, Enum):
    """What a tensor is to its module."""

    DOWN = "down factor"
    UP = "up factor"
    ALPHA = "alpha"
    DIFF = "change of the weight"
    DIFF_BIAS = "change of the bias"
    DIFF_MODULATION = "change of the modulation"


class Piece(NamedTuple):
    """A tensor name taken apart."""

    module: str
    """As the file spells it, without what only says whose model it is."""
    role: Role


# PEFT names its adapters, mostly "default". Sources of the endings: kohya-ss/musubi-tuner
# networks/lora.py, huggingface/peft, KohakuBlueleaf/LyCORIS (w_norm, b_norm) and the extracted
# files of kijai and lightx2v (diff, diff_b, diff_m).
_ADAPTER = r"(?:\.(?!weight$|bias$)\w+)?(?:\.weight)?"
_ENDINGS = tuple(
    (re.compile(rf"(?P<module>.+?){ending}"), role)
    for ending, role in (
        (rf"[._]lora(?:_linear_layer)?[._](?:down|A){_ADAPTER}", Role.DOWN),
        (rf"[._]lora(?:_linear_layer)?[._](?:up|B){_ADAPTER}", Role.UP),
        (r"\.alpha", Role.ALPHA),
        (r"\.(?:diff|w_norm)", Role.DIFF),
        (r"\.(?:diff_b|b_norm)", Role.DIFF_BIAS),
        (r"\.diff_m", Role.DIFF_MODULATION),
    )
)
# Taken off as often as they occur. "transformer_blocks." of other families must stay what it is.
_PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "pipe.dit.",
    "model.",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_",
)
# Pieces of names of files that change weights in another way than by two factors.
_OTHER_FORMATS = (
    (".hada_", "a LoHa"),
    (".lokr_", "a LoKr"),
    (".dora_scale", "a DoRA"),
    (".lora_magnitude_vector", "a DoRA"),
    (".oft_", "an OFT"),
    (".lora_mid.", "a LoCon with a core tensor"),
    (".reshape_weight", "a LoRA that changes the sizes of tensors"),
)
# Whose modules they are: what users pick by mistake.
_STRANGERS = (
    (r"(^|[._])(double|single)_blocks[._]\d", "Flux or HunyuanVideo"),
    (r"(^|[._])single_transformer_blocks[._]\d", "Flux"),
    (r"(^|[._])joint_blocks[._]\d", "Stable Diffusion 3"),
    (r"(^|[._])(down|up|input|output|mid|middle)_blocks?[._]", "Stable Diffusion"),
    (r"(^|[._])transformer_blocks[._]\d", "another family of transformers (LTX, Qwen, CogVideoX)"),
    (r"(^|[._])vace_blocks[._]\d", "Wan VACE"),
    (r"(^|[._])face_adapter[._]", "Wan Animate"),
    (r"(^|[._])(audio_proj|audio_injector|casual_audio_encoder)[._]", "a Wan driven by audio"),
    (r"^lora_te|(^|[._])text_(encoder|model)[._]", "a text encoder"),
    (r"(^|[._])self_attn[._][qkv]_proj", "a language model"),
)


def parse_name(name: str) -> Piece | None:
    """Take a tensor name apart; None if it is none of a LoRA's."""
    for pattern, role in _ENDINGS:
        if match := pattern.fullmatch(name):
            return Piece(_strip(match["module"]), role)
    return None


def other_format(names: Iterable[str]) -> str | None:
    """What kind of file it is if it is one that two factors cannot express."""
    names = tuple(names)
    return next((what for mark, what in _OTHER_FORMATS if any(mark in n for n in names)), None)


def owner_of(names: Iterable[str]) -> str | None:
    """Which other model the names belong to, if that can be recognised."""
    names = tuple(names)
    found = (what for mark, what in _STRANGERS if any(re.search(mark, name) for name in names))
    return next(found, None)


def flat(name: str) -> str:
    """A module or parameter name as kohya writes it, where dots and underscores are one.

    Different parameters of the Wan transformers stay different, which a test checks.
    """
    return name.replace(".", "_")


def _strip(module: str) -> str:
    found = True
    while found:
        found = next((prefix for prefix in _PREFIXES if module.startswith(prefix)), "")
        module = module.removeprefix(found)
    return module.lstrip("_")  # Wan-Fun writes "lora_unet__blocks_..."
