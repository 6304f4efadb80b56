"""Tell from names and shapes what a weight file is, and refuse what cannot work, by name.

No false alarms about good files: a rule that refuses names a tensor that a usable file never
has. What slips through is caught when the tensors are compared with the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from ..errors import ModelError, WanError
from ..payloads import Variant
from .gguf_file import GGML_TYPES, expect_gguf_package
from .header import Header
from .keys import (
    IMAGE_ROWS,
    TEXT_ROWS,
    Row,
    count_motion_blocks,
    drop_unused,
    to_standard,
    transformer_rows,
    vae_rows,
)
from .scales import check_scales, split_scales

EXAMPLE_TRANSFORMERS = (
    "Choose a Wan 2.1 image-to-video, Wan 2.1 first-last-frame or Wan 2.2 Animate file, for "
    "example wan2.1_i2v_480p_14B_fp16.safetensors or wan2.2_animate_14B_bf16.safetensors."
)


class Kind(str, Enum):
    """Which part of a Wan model a file is."""

    TRANSFORMER = "a Wan transformer"
    VAE = "a Wan VAE"
    TEXT_ENCODER = "a UMT5 text encoder"
    IMAGE_ENCODER = "a CLIP vision encoder"


class Layout(str, Enum):
    """Whose tensor names a file uses."""

    STANDARD = "diffusers or transformers names"
    ORIGINAL = "names of the model's authors"


@dataclass(frozen=True)
class Identity:
    """What a file was found to be."""

    kind: Kind
    layout: Layout
    prefix: str
    """What precedes every name in the file, for example "model.diffusion_model."."""
    header: Header
    """With standard names and shapes; unused tensors and scales left out."""
    storage: str = ""
    """How quantised weights are stored, for example "scaled fp8 (e4m3)"; empty: none are."""


# ComfyUI's repackaged files, whole checkpoints, and the halves of CLIP files
_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "vision_model.", "visual.")
# All of the names mean: it is this.
_SIGNS: tuple[tuple[tuple[str, ...], Kind, Layout], ...] = (
    (
        ("text_embedding.0.weight", "blocks.0.self_attn.q.weight"),
        Kind.TRANSFORMER,
        Layout.ORIGINAL,
    ),
    (
        ("condition_embedder.text_embedder.linear_1.weight", "blocks.0.attn1.to_q.weight"),
        Kind.TRANSFORMER,
        Layout.STANDARD,
    ),
    (("decoder.middle.0.residual.0.gamma", "conv2.weight"), Kind.VAE, Layout.ORIGINAL),
    (
        ("decoder.mid_block.resnets.0.norm1.gamma", "post_quant_conv.weight"),
        Kind.VAE,
        Layout.STANDARD,
    ),
    (("token_embedding.weight", "blocks.0.attn.q.weight"), Kind.TEXT_ENCODER, Layout.ORIGINAL),
    (("token_embd.weight", "enc.blk.0.attn_q.weight"), Kind.TEXT_ENCODER, Layout.ORIGINAL),
    (
        ("encoder.block.0.layer.0.SelfAttention.q.weight",),
        Kind.TEXT_ENCODER,
        Layout.STANDARD,
    ),
    (("cls_embedding", "transformer.0.attn.to_qkv.weight"), Kind.IMAGE_ENCODER, Layout.ORIGINAL),
    (
        ("embeddings.class_embedding", "encoder.layers.0.self_attn.q_proj.weight"),
        Kind.IMAGE_ENCODER,
        Layout.STANDARD,
    ),
)
# Name endings of low-rank files: kohya, diffusers and PEFT, LyCORIS
_LORA_MARKS = (
    ".lora_A.",
    ".lora_B.",
    ".lora_down.",
    ".lora_up.",
    ".hada_w1_a",
    ".lokr_w1",
    ".diff_b",
)
# A piece of a tensor name, and whose it is: what users pick by mistake.
_STRANGERS = (
    ("double_blocks.0.", "a Flux or HunyuanVideo transformer"),
    ("input_blocks.0.", "a Stable Diffusion UNet or checkpoint"),
    ("joint_blocks.0.", "a Stable Diffusion 3 transformer"),
    ("transformer_blocks.0.", "a transformer of another family"),
    ("decoder.conv_in.", "the VAE of an image model"),
    ("decoder.up.0.block.", "the VAE of an image model"),
    ("text_model.encoder.layers.0.", "a CLIP text encoder"),
    ("transformer.resblocks.0.", "a CLIP in open_clip's layout"),
    ("layers.0.self_attn.q_proj.", "a language model or a vision model of another family"),
)
# Fine kinds of Wan transformers that this pack does not run: (piece of a name, what it is).
# Sources: Wan-Video/Wan2.1 and Wan2.2, aigc-apps/VideoX-Fun, MeiGen-AI/MultiTalk.
_OTHER_WANS = (
    ("vace_blocks.0.", "a Wan VACE model"),
    ("vace_patch_embedding.", "a Wan VACE model"),
    ("control_adapter.", "a Wan camera-control model"),
    ("ref_conv.", "a Wan Fun-Control model"),
    ("casual_audio_encoder.", "a Wan speech-to-video (S2V) model"),
    ("audio_injector.", "a Wan speech-to-video (S2V) model"),
    ("audio_proj.", "a Wan model driven by audio (MultiTalk, InfiniteTalk or HuMo)"),
    ("face_adapter.", "an incomplete Wan Animate model (motion encoder or pose embedding missing)"),
    ("motion_encoder.", "not an Animate model that can be used (its face adapter is missing)"),
)
_LONGEST_REASON = 200  # characters
_QUANT_MARKS = (
    (".weight_scale_2", "nvfp4"),
    ("._data", "quanto int8"),
    (".weight_qtype", "quanto int8"),
    (".qweight", "4-bit (GPTQ, AWQ or SVDQuant)"),
    (".quant_state.", "bitsandbytes 4-bit"),
)
_GGUF = "GGUF"
_QUANT_TYPES = {
    "I8": "8-bit integer",
    "U8": "packed 4-bit",
    "F4": "fp4",
}


def identify(header: Header) -> Identity:
    """Which part of a Wan model `header` describes, with standard names.

    Raises:
        ModelError: it is none, or quantised in a way that cannot be read; the text names what it is.
    """
    with readable(header.name):
        return _identify(header)


def _identify(header: Header) -> Identity:
    if any(mark in name for name in header.tensors for mark in _LORA_MARKS):
        raise ModelError(
            what=f"'{header.name}' is a LoRA.",
            why="A LoRA changes the weights of a model; it is not a model.",
            fix="Choose the model here and add the LoRA to it.",
        )
    prefix, stripped = _strip(header)
    kind, layout = _find_sign(header, stripped)
    _refuse_quantised(header, stripped)
    storage = check_scales(stripped)
    weights, _ = split_scales(stripped.tensors)
    used = drop_unused(weights)
    if not storage:
        kinds = {t.dtype for t in used.values() if t.dtype in GGML_TYPES}
        storage = f"{_GGUF} {', '.join(sorted(kinds))}" if kinds else ""
    if layout is Layout.ORIGINAL:
        used = to_standard(used, rows_of(kind, used))
    return Identity(kind, layout, prefix, header.renamed(used), storage)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what damaged names, sizes and settings lead to into an error about their file.

    Args:
        name: of the file.
    Raises:
        ModelError: the block stumbled over a number or a name that no model has.
    """
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        reason = str(error).partition("\n")[0][:_LONGEST_REASON] or type(error).__name__
        raise ModelError(
            what=f"'{name}' describes a model that cannot be built: {reason}.",
            why="Sizes and layers are read from the names and shapes of its tensors.",
            fix="Delete the file and download it again.",
        ) from error


def expect(header: Header, kind: Kind) -> Identity:
    """The identity of `header`, which must be of this kind.

    Raises:
        ModelError: it is something else.
        UnavailableError: it is a quantised GGUF file and the package `gguf` is missing.
    """
    identity = identify(header)
    if identity.kind is not kind:
        raise ModelError(
            what=f"'{header.name}' is {identity.kind.value}, not {kind.value}.",
            why="Each part of the model comes from a file of its own.",
            fix=f"Choose the file of {kind.value} here.",
        )
    if identity.storage.startswith(_GGUF):
        expect_gguf_package(header.name)
    return identity


def may_serve(header: Header, kind: Kind) -> bool:
    """Whether a file is worth offering as one of this kind: False only where it surely is not.

    A file of the right kind that cannot be read, because of its quantisation for example, is
    offered: its error says more than its absence.
    """
    try:
        with readable(header.name):
            if _find_sign(header, _strip(header)[1])[0] is not kind:
                return False
    except ModelError:
        return False
    try:
        identity = identify(header)
    except WanError:
        return True
    try:
        return kind is not Kind.TRANSFORMER or bool(find_variant(identity))
    except ModelError:
        return False


def rows_of(kind: Kind, names: dict) -> tuple[Row, ...]:
    """The key table of a file with original names."""
    if kind is Kind.TRANSFORMER:
        return transformer_rows(count_motion_blocks(names) or 7)
    if kind is Kind.VAE:
        return vae_rows()
    return TEXT_ROWS if kind is Kind.TEXT_ENCODER else IMAGE_ROWS


def find_variant(identity: Identity) -> Variant:
    """Which kind of Wan transformer this is.

    Raises:
        ModelError: one that this pack does not run (text to video, Wan 2.2 A14B, VACE, ...).
    """
    with readable(identity.header.name):
        return _find_variant(identity)


def _find_variant(identity: Identity) -> Variant:
    header = identity.header
    names = header.tensors
    if _has_animate_parts(names):
        return Variant.ANIMATE
    for piece, what in _OTHER_WANS:
        if any(name.startswith(piece) for name in names):
            raise _other_wan(header, what)
    shape = header.shape("patch_embedding.weight")
    channels, out = shape[1], header.shape("proj_out.weight")[0] // _product(shape[2:])
    has_image = "condition_embedder.image_embedder.norm1.weight" in names
    if channels == 36 and has_image:
        is_pair = "condition_embedder.image_embedder.pos_embed" in names
        return Variant.FLF2V if is_pair else Variant.I2V
    what = {
        (16, 16): "a text-to-video model",
        (36, 16): "a Wan 2.2 A14B image-to-video model (36 channels, but no image tokens)",
        (48, 48): "the Wan 2.2 TI2V-5B model",
        (48, 16): "a Wan Fun-Control model",
        (32, 16): "a Wan camera-control model",
    }.get((channels, out), "a Wan transformer of an unknown kind")
    raise _other_wan(header, f"{what} ({channels} input channels)")


def _has_animate_parts(names: dict) -> bool:
    parts = ("face_adapter.0.to_q.", "motion_encoder.motion_synthesis", "pose_patch_embedding.")
    return all(any(name.startswith(part) for name in names) for part in parts)


def _other_wan(header: Header, what: str) -> ModelError:
    return ModelError(
        what=f"'{header.name}' is {what}.",
        why="This pack runs image-to-video models with 36 input channels and image tokens.",
        fix=EXAMPLE_TRANSFORMERS,
    )


def _strip(header: Header) -> tuple[str, Header]:
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in header.tensors):
            tensors = {name.removeprefix(prefix): info for name, info in header.tensors.items()}
            return prefix, header.renamed(tensors)
    return "", header


def _find_sign(header: Header, stripped: Header) -> tuple[Kind, Layout]:
    for names, kind, layout in _SIGNS:
        # fp8 and integer formats of some tools rename "X.weight" to "X.weight._data" and the like
        if all(_has(stripped, name) for name in names):
            return kind, layout
    _refuse_quantised(header, stripped)
    for piece, what in _STRANGERS:
        if any(piece in name for name in stripped.tensors):
            raise ModelError(
                what=f"'{header.name}' is {what}.",
                why="No part of a Wan model looks like this.",
                fix="Choose a file of a Wan model (see the table of model files in the README).",
            )
    first = ", ".join(sorted(header.tensors)[:3]) or "none"
    raise ModelError(
        what=f"'{header.name}' is no part of a Wan model ({len(header.tensors)} tensors, "
        f"first: {first}).",
        why="Its tensor names belong to no Wan transformer, Wan VAE, UMT5 or CLIP vision model.",
        fix="Choose a file of a Wan model (see the table of model files in the README).",
    )


def _has(header: Header, name: str) -> bool:
    return name in header.tensors or f"{name}._data" in header.tensors


def _refuse_quantised(header: Header, stripped: Header) -> None:
    names = stripped.tensors
    found = next(
        (what for mark, what in _QUANT_MARKS if any(name.endswith(mark) for name in names)), None
    )
    if found is None:
        matrices = (t for n, t in names.items() if n.endswith(".weight") and len(t.shape) > 1)
        found = next((_QUANT_TYPES[t.dtype] for t in matrices if t.dtype in _QUANT_TYPES), None)
    if found is not None:
        raise ModelError(
            what=f"'{header.name}' is quantised: {found}.",
            why="Quantised weights are read from fp8 safetensors files (plain or scaled) and from "
            "GGUF files.",
            fix="Choose the bf16, fp16, fp8 or GGUF file of the same model.",
        )


def _product(numbers: tuple[int, ...]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
