"""Tensor names: from the layouts that Wan files come in to those of diffusers and transformers.

Each model has one table. A row reads "original name, standard name"; `{}` stands for a number
and `*` for the rest of the name, in the same order on both sides. A row with several standard
names says that the original stacks them along axis 0. The same tables serve in both directions,
and for shapes as well as for tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from .header import TensorInfo

V = TypeVar("V", Tensor, TensorInfo)


class Row(NamedTuple):
    """One line of a key table."""

    original: str
    """Name in the file of the model's authors."""
    standard: tuple[str, ...]
    """Name in diffusers or transformers; several if the original stacks them along axis 0."""
    ones: tuple[int, ...] = ()
    """Axes of length 1 that only the original has."""


def _rows(*pairs: tuple[str, str]) -> list[Row]:
    return [Row(original, (standard,)) for original, standard in pairs]


# Source of all pairs: Wan-Video/Wan2.1 wan/modules/model.py against diffusers
# transformer_wan.py; norm2 and norm3 swap their names.
_ATTENTION = (
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("o", "to_out.0"),
    ("norm_q", "norm_q"),
    ("norm_k", "norm_k"),
    ("k_img", "add_k_proj"),
    ("v_img", "add_v_proj"),
    ("norm_k_img", "norm_added_k"),
)
_TRANSFORMER = [
    *_rows(
        ("patch_embedding.*", "patch_embedding.*"),
        ("time_embedding.0.*", "condition_embedder.time_embedder.linear_1.*"),
        ("time_embedding.2.*", "condition_embedder.time_embedder.linear_2.*"),
        ("time_projection.1.*", "condition_embedder.time_proj.*"),
        ("text_embedding.0.*", "condition_embedder.text_embedder.linear_1.*"),
        ("text_embedding.2.*", "condition_embedder.text_embedder.linear_2.*"),
        ("img_emb.proj.0.*", "condition_embedder.image_embedder.norm1.*"),
        ("img_emb.proj.1.*", "condition_embedder.image_embedder.ff.net.0.proj.*"),
        ("img_emb.proj.3.*", "condition_embedder.image_embedder.ff.net.2.*"),
        ("img_emb.proj.4.*", "condition_embedder.image_embedder.norm2.*"),
        ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
        ("blocks.{}.modulation", "blocks.{}.scale_shift_table"),
        ("blocks.{}.norm3.*", "blocks.{}.norm2.*"),
        ("blocks.{}.ffn.0.*", "blocks.{}.ffn.net.0.proj.*"),
        ("blocks.{}.ffn.2.*", "blocks.{}.ffn.net.2.*"),
        ("head.head.*", "proj_out.*"),
        ("head.modulation", "scale_shift_table"),
    ),
    *_rows(
        *(
            (f"blocks.{{}}.{ours}.{a}.*", f"blocks.{{}}.{theirs}.{b}.*")
            for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
            for a, b in _ATTENTION
        )
    ),
]
# Wan-Video/Wan2.2 wan/modules/animate/{model_animate,face_blocks}.py
_FACE = [
    *_rows(
        ("pose_patch_embedding.*", "pose_patch_embedding.*"),
        ("face_adapter.fuser_blocks.{}.linear1_q.*", "face_adapter.{}.to_q.*"),
        ("face_adapter.fuser_blocks.{}.linear2.*", "face_adapter.{}.to_out.*"),
        ("face_adapter.fuser_blocks.{}.q_norm.*", "face_adapter.{}.norm_q.*"),
        ("face_adapter.fuser_blocks.{}.k_norm.*", "face_adapter.{}.norm_k.*"),
        ("face_encoder.conv1_local.conv.*", "face_encoder.conv1_local.*"),
        ("face_encoder.conv2.conv.*", "face_encoder.conv2.*"),
        ("face_encoder.conv3.conv.*", "face_encoder.conv3.*"),
        ("face_encoder.out_proj.*", "face_encoder.out_proj.*"),
        ("face_encoder.padding_tokens", "face_encoder.padding_tokens"),
    ),
    Row(
        "face_adapter.fuser_blocks.{}.linear1_kv.*",
        ("face_adapter.{}.to_k.*", "face_adapter.{}.to_v.*"),
    ),
]


@cache
def transformer_rows(motion_blocks: int = 7) -> tuple[Row, ...]:
    """Table of the transformers, Animate's extras included.

    Args:
        motion_blocks: residual blocks of the motion encoder; 7 for its real size of 512.
    """
    # Wan-Video/Wan2.2 wan/modules/animate/motion_encoder.py: convs.0 is the first convolution,
    # then the residual blocks, then the last one
    source, target = "motion_encoder.enc.net_app.convs", "motion_encoder"
    bias_axes = (0, 2, 3)  # FusedLeakyReLU keeps its bias as [1, C, 1, 1]
    rows = [
        Row(f"{source}.0.0.weight", (f"{target}.conv_in.weight",)),
        Row(f"{source}.0.1.bias", (f"{target}.conv_in.act_fn.bias",), bias_axes),
        Row(f"{source}.{motion_blocks + 1}.weight", (f"{target}.conv_out.weight",)),
        Row("motion_encoder.enc.fc.{}.*", (f"{target}.motion_network.{{}}.*",)),
        Row("motion_encoder.dec.direction.weight", (f"{target}.motion_synthesis_weight",)),
    ]
    for i in range(motion_blocks):
        ours, theirs = f"{source}.{i + 1}", f"{target}.res_blocks.{i}"
        rows += [
            Row(f"{ours}.conv1.0.weight", (f"{theirs}.conv1.weight",)),
            Row(f"{ours}.conv1.1.bias", (f"{theirs}.conv1.act_fn.bias",), bias_axes),
            Row(f"{ours}.conv2.1.weight", (f"{theirs}.conv2.weight",)),
            Row(f"{ours}.conv2.2.bias", (f"{theirs}.conv2.act_fn.bias",), bias_axes),
            Row(f"{ours}.skip.1.weight", (f"{theirs}.conv_skip.weight",)),
        ]
    return (*_TRANSFORMER, *_FACE, *rows)


def count_motion_blocks(names: Iterable[str]) -> int:
    """Residual blocks of the motion encoder in a file with original names."""
    pattern = re.compile(r"motion_encoder\.enc\.net_app\.convs\.\d+\.skip\.1\.weight")
    return sum(1 for name in names if pattern.fullmatch(name))


_VAE_RESIDUAL = (
    ("residual.0.*", "norm1.*"),
    ("residual.2.*", "conv1.*"),
    ("residual.3.*", "norm2.*"),
    ("residual.6.*", "conv2.*"),
    ("shortcut.*", "conv_shortcut.*"),
)
_VAE_RESAMPLE = (("resample.1.*", "resample.1.*"), ("time_conv.*", "time_conv.*"))
_VAE_STAGES = 4
_VAE_UP_RESNETS = 3  # num_res_blocks + 1 per decoder stage, then the upsampler


@cache
def vae_rows() -> tuple[Row, ...]:
    """Table of the VAE with its real topology: four stages of two residual blocks.

    Source: Wan-Video/Wan2.1 wan/modules/vae.py against diffusers autoencoder_kl_wan.py.
    """
    pairs = [("conv1.*", "quant_conv.*"), ("conv2.*", "post_quant_conv.*")]
    for side in ("encoder", "decoder"):
        pairs += [
            (f"{side}.conv1.*", f"{side}.conv_in.*"),
            (f"{side}.head.0.*", f"{side}.norm_out.*"),
            (f"{side}.head.2.*", f"{side}.conv_out.*"),
            (f"{side}.middle.1.*", f"{side}.mid_block.attentions.0.*"),
        ]
        for ours, theirs in (("0", "0"), ("2", "1")):
            pairs += [
                (f"{side}.middle.{ours}.{a}", f"{side}.mid_block.resnets.{theirs}.{b}")
                for a, b in _VAE_RESIDUAL
            ]
    pairs += [
        (f"encoder.downsamples.{{}}.{a}", f"encoder.down_blocks.{{}}.{b}")
        for a, b in (*_VAE_RESIDUAL, *_VAE_RESAMPLE)
    ]
    for stage in range(_VAE_STAGES):
        first = stage * (_VAE_UP_RESNETS + 1)
        for i in range(_VAE_UP_RESNETS):
            pairs += [
                (f"decoder.upsamples.{first + i}.{a}", f"decoder.up_blocks.{stage}.resnets.{i}.{b}")
                for a, b in _VAE_RESIDUAL
            ]
        pairs += [
            (
                f"decoder.upsamples.{first + _VAE_UP_RESNETS}.{a}",
                f"decoder.up_blocks.{stage}.upsamplers.0.{b}",
            )
            for a, b in _VAE_RESAMPLE
        ]
    return tuple(_rows(*pairs))


# Wan-Video/Wan2.1 wan/modules/t5.py against transformers modeling_umt5.py
TEXT_ROWS: tuple[Row, ...] = tuple(
    _rows(
        ("token_embedding.weight", "shared.weight"),
        ("blocks.{}.norm1.weight", "encoder.block.{}.layer.0.layer_norm.weight"),
        *(
            (f"blocks.{{}}.attn.{n}.weight", f"encoder.block.{{}}.layer.0.SelfAttention.{n}.weight")
            for n in "qkvo"
        ),
        (
            "blocks.{}.pos_embedding.embedding.weight",
            "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight",
        ),
        ("blocks.{}.norm2.weight", "encoder.block.{}.layer.1.layer_norm.weight"),
        ("blocks.{}.ffn.gate.0.weight", "encoder.block.{}.layer.1.DenseReluDense.wi_0.weight"),
        ("blocks.{}.ffn.fc1.weight", "encoder.block.{}.layer.1.DenseReluDense.wi_1.weight"),
        ("blocks.{}.ffn.fc2.weight", "encoder.block.{}.layer.1.DenseReluDense.wo.weight"),
        ("norm.weight", "encoder.final_layer_norm.weight"),
        # GGUF files: ggml-org/llama.cpp gguf-py/gguf/constants.py, T5ENCODER
        ("token_embd.weight", "shared.weight"),
        ("enc.blk.{}.attn_norm.weight", "encoder.block.{}.layer.0.layer_norm.weight"),
        *(
            (
                f"enc.blk.{{}}.attn_{n}.weight",
                f"encoder.block.{{}}.layer.0.SelfAttention.{n}.weight",
            )
            for n in "qkvo"
        ),
        (
            "enc.blk.{}.attn_rel_b.weight",
            "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight",
        ),
        ("enc.blk.{}.ffn_norm.weight", "encoder.block.{}.layer.1.layer_norm.weight"),
        ("enc.blk.{}.ffn_gate.weight", "encoder.block.{}.layer.1.DenseReluDense.wi_0.weight"),
        ("enc.blk.{}.ffn_up.weight", "encoder.block.{}.layer.1.DenseReluDense.wi_1.weight"),
        ("enc.blk.{}.ffn_down.weight", "encoder.block.{}.layer.1.DenseReluDense.wo.weight"),
        ("enc.output_norm.weight", "encoder.final_layer_norm.weight"),
    )
)
# Wan-Video/Wan2.1 wan/modules/clip.py (VisionTransformer) against transformers modeling_clip.py
IMAGE_ROWS: tuple[Row, ...] = (
    Row("cls_embedding", ("embeddings.class_embedding",), (0, 1)),
    Row("pos_embedding", ("embeddings.position_embedding.weight",), (0,)),
    Row(
        "transformer.{}.attn.to_qkv.*",
        tuple(f"encoder.layers.{{}}.self_attn.{name}_proj.*" for name in "qkv"),
    ),
    *_rows(
        ("patch_embedding.weight", "embeddings.patch_embedding.weight"),
        ("pre_norm.*", "pre_layrnorm.*"),
        ("transformer.{}.norm1.*", "encoder.layers.{}.layer_norm1.*"),
        ("transformer.{}.attn.proj.*", "encoder.layers.{}.self_attn.out_proj.*"),
        ("transformer.{}.norm2.*", "encoder.layers.{}.layer_norm2.*"),
        ("transformer.{}.mlp.0.*", "encoder.layers.{}.mlp.fc1.*"),
        ("transformer.{}.mlp.2.*", "encoder.layers.{}.mlp.fc2.*"),
        ("post_norm.*", "post_layernorm.*"),
    ),
)

_SHARED, _TIED = "shared.weight", "encoder.embed_tokens.weight"
# Tensors that files carry and the models have no use for.
UNUSED = tuple(
    re.compile(pattern)
    for pattern in (
        # constant blur kernels; the modules build their own
        r"motion_encoder\.enc\.net_app\.convs\.\d+\.(conv2|skip)\.0\.kernel",
        # diffusers drops it too: _keys_to_ignore_on_load_unexpected
        r"blocks\.\d+\.(attn2\.norm_added_q|cross_attn\.norm_q_img)\..+",
        # the tokenizer's model, which ComfyUI's text encoder files carry along
        r"spiece_model",
        # tied to shared.weight, see drop_unused
        r"encoder\.embed_tokens\.weight",
        # the other halves of a whole CLIP, and buffers of old transformers versions
        r"(textual|text_model)\..+|log_scale|logit_scale|(text|visual)_projection\.weight",
        r"head|embeddings\.position_ids",
    )
)


def drop_unused(entries: Mapping[str, V]) -> dict[str, V]:
    """Leave out what no model needs; names have no prefix any more."""
    used = {n: v for n, v in entries.items() if not any(p.fullmatch(n) for p in UNUSED)}
    if _TIED in entries and _SHARED not in used:
        used[_SHARED] = entries[_TIED]  # some files keep the tied embedding under its other name
    return used


def to_standard(entries: Mapping[str, V], rows: Iterable[Row]) -> dict[str, V]:
    """Rename, split and squeeze from original to standard.

    Args:
        entries: tensors, or their types and shapes, by original name.
        rows: a table of this module.
    Returns:
        The same by standard name. What no row knows keeps its name, so that the check against
        the model reports it.
    """
    compiled = [(_pattern(row.original), row) for row in rows]
    result: dict[str, V] = {}
    for name, value in entries.items():
        for pattern, row in compiled:
            if match := pattern.fullmatch(name):
                has_ones = row.ones and all(
                    value.shape[axis : axis + 1] == (1,) for axis in row.ones
                )
                whole = value.squeeze(row.ones) if has_ones else value
                parts = whole.chunk(len(row.standard)) if len(row.standard) > 1 else (whole,)
                for target, part in zip(row.standard, parts, strict=True):
                    result[_fill(target, match.groups())] = part
                break
        else:
            result[name] = value
    return result


def standard_names(name: str, rows: Iterable[Row]) -> tuple[str, ...]:
    """What becomes of an original name: several names where it is split along axis 0."""
    for row in rows:
        if match := _pattern(row.original).fullmatch(name):
            return tuple(_fill(target, match.groups()) for target in row.standard)
    return (name,)


def to_original(tensors: Mapping[str, Tensor], rows: Iterable[Row]) -> dict[str, Tensor]:
    """The inverse of `to_standard`, for writing files as the model's authors do."""
    compiled = [(_pattern(row.standard[0]), row) for row in rows]
    followers = [_pattern(name) for row in rows for name in row.standard[1:]]
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, row in compiled:
            if match := pattern.fullmatch(name):
                parts = [tensors[_fill(part, match.groups())] for part in row.standard]
                stacked = torch.cat(parts) if len(parts) > 1 else tensor
                for axis in row.ones:
                    stacked = stacked.unsqueeze(axis)
                result[_fill(row.original, match.groups())] = stacked
                break
        else:
            if not any(pattern.fullmatch(name) for pattern in followers):
                result[name] = tensor
    return result


@cache
def _pattern(name: str) -> re.Pattern[str]:
    text = re.escape(name).replace(r"\{\}", r"(\d+)").replace(r"\*", r"(.+)")
    return re.compile(text)


def _fill(name: str, groups: tuple[str, ...]) -> str:
    pieces = re.split(r"\{\}|\*", name)
    return "".join(a + b for a, b in zip(pieces, (*groups, ""), strict=True))
