"""Constructor arguments of the models, derived from tensor shapes.

A `config.json` beside the weights wins over what cannot be read from shapes; it is never
needed for the real models.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from ..errors import ModelError
from ..payloads import Variant
from .header import INDEX_SUFFIX, Header
from .inspect import Identity, find_variant

METADATA_KEY = "wan_local"
"""safetensors metadata entry with JSON constructor arguments; the tiny files carry it."""
SMALLEST_WAN = 1536
"""Width of Wan 2.1 1.3B (i2v.md 1): whatever is narrower is a miniature."""
_LARGEST = 1 << 20  # above any size there is; the vocabulary of UMT5 is a quarter of it
_HEAD_DIM = 128  # every released Wan transformer (i2v.md 1)
# What the authors' own config.json calls some of the arguments
# (Wan-Video/Wan2.1 wan/modules/model.py, WanModel.__init__)
_ORIGINAL_NAMES = {"num_heads": "num_attention_heads", "eps": "eps"}
_ORIGINAL_CLASSES = ("WanModel", "WanAnimateModel")
_STANDARD_CLASSES = ("WanTransformer3DModel", "WanAnimateTransformer3DModel", "AutoencoderKLWan")
_TRANSFORMERS_TYPES = ("umt5", "clip_vision_model")


def transformer_config(identity: Identity) -> dict[str, Any]:
    """Arguments of `WanTransformer3DModel` or `WanAnimateTransformer3DModel`.

    Raises:
        ModelError: a tensor that shows a size is missing, or the number of heads is unknown.
    """
    header, names = identity.header, identity.header.tensors
    variant = find_variant(identity)
    dim, in_channels, *patch = header.shape("patch_embedding.weight")
    embedder = "condition_embedder"
    config: dict[str, Any] = {
        "patch_size": tuple(patch),
        "in_channels": in_channels,
        "out_channels": header.shape("proj_out.weight")[0] // math.prod(patch),
        "text_dim": header.shape(f"{embedder}.text_embedder.linear_1.weight")[1],
        "freq_dim": header.shape(f"{embedder}.time_embedder.linear_1.weight")[1],
        "ffn_dim": header.shape("blocks.0.ffn.net.0.proj.weight")[0],
        "num_layers": count(names, r"blocks\.(\d+)\..+"),
        "cross_attn_norm": "blocks.0.norm2.weight" in names,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "image_dim": header.shape(f"{embedder}.image_embedder.norm1.weight")[0],
        "added_kv_proj_dim": header.shape("blocks.0.attn2.add_k_proj.weight")[1],
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": None,
    }
    if f"{embedder}.image_embedder.pos_embed" in names:
        config["pos_embed_seq_len"] = header.shape(f"{embedder}.image_embedder.pos_embed")[1]
    if variant is Variant.ANIMATE:
        config |= _animate_config(header, config["num_layers"])
    stored = stored_config(header)
    config |= {key: value for key, value in stored.items() if key in config}
    heads = stored.get("num_attention_heads") or _find_heads(header, dim)
    return config | {"num_attention_heads": heads, "attention_head_dim": dim // heads}


def _animate_config(header: Header, layers: int) -> dict[str, Any]:
    adapters = count(header.tensors, r"face_adapter\.(\d+)\..+")
    blocks = count(header.tensors, r"motion_encoder\.res_blocks\.(\d+)\..+")
    hidden = header.shape("face_encoder.conv2.weight")[0]
    # each residual block halves the picture, and the last convolution takes 4 x 4
    size = 2 ** (blocks + 2)
    channels = {str(size): header.shape("motion_encoder.conv_in.weight")[0]}
    for i in range(blocks):
        width = header.shape(f"motion_encoder.res_blocks.{i}.conv2.weight")[0]
        channels[str(size >> (i + 1))] = width
    directions = header.shape("motion_encoder.motion_synthesis_weight")
    return {
        "latent_channels": header.shape("pose_patch_embedding.weight")[1],
        "motion_encoder_channel_sizes": channels,
        "motion_encoder_size": size,
        "motion_style_dim": header.shape("motion_encoder.conv_out.weight")[0],
        "motion_dim": directions[1],
        "motion_encoder_dim": directions[0],
        "face_encoder_hidden_dim": hidden,
        "face_encoder_num_heads": header.shape("face_encoder.conv1_local.weight")[0] // hidden,
        "inject_face_latents_blocks": layers // adapters,
    }


def _find_heads(header: Header, dim: int) -> int:
    if "face_adapter.0.norm_q.weight" in header.tensors:
        return dim // header.shape("face_adapter.0.norm_q.weight")[0]
    if dim % _HEAD_DIM:
        raise ModelError(
            what=f"'{header.name}' is {dim} wide, which is no multiple of {_HEAD_DIM}.",
            why="The number of attention heads cannot be read from tensor shapes; the released "
            f"Wan models have heads of {_HEAD_DIM}.",
            fix="Use the Diffusers folder of this model, whose config.json tells the number.",
        )
    return dim // _HEAD_DIM


def vae_config(identity: Identity) -> dict[str, Any]:
    """Arguments of `AutoencoderKLWan`.

    Raises:
        ModelError: it is not the Wan 2.1 VAE (16 latent channels).
    """
    header = identity.header
    latent = header.shape("post_quant_conv.weight")[0]
    if latent != 16:
        raise ModelError(
            what=f"'{header.name}' is a Wan VAE with {latent} latent channels.",
            why="The models of this pack work on the 16 latent channels of the Wan 2.1 VAE; 48 "
            "belong to Wan 2.2 TI2V-5B.",
            fix="Choose wan_2.1_vae.safetensors (Wan 2.2 Animate uses it too).",
        )
    base = header.shape("encoder.conv_in.weight")[0]
    widths: list[int] = []
    temporal: list[bool] = []
    residuals = width = 0
    for i in range(count(header.tensors, r"encoder\.down_blocks\.(\d+)\..+")):
        block = f"encoder.down_blocks.{i}"
        if f"{block}.conv2.weight" in header.tensors:
            width = header.shape(f"{block}.conv2.weight")[0]
            residuals += 1
        else:
            widths.append(width)
            temporal.append(f"{block}.time_conv.weight" in header.tensors)
    widths.append(width)
    config = {
        "base_dim": base,
        "z_dim": latent,
        "dim_mult": [width // base for width in widths],
        "num_res_blocks": residuals // len(widths),
        "attn_scales": [],
        "temperal_downsample": temporal,
    }
    stored = stored_config(header)
    statistics = {key: stored[key] for key in ("latents_mean", "latents_std") if key in stored}
    return config | statistics


def text_config(identity: Identity) -> dict[str, Any]:
    """Arguments of transformers' `UMT5Config`.

    Raises:
        ModelError: it is a plain T5, or sizes cannot be read.
    """
    header = identity.header
    attention = "encoder.block.{}.layer.0.SelfAttention"
    layers = count(header.tensors, r"encoder\.block\.(\d+)\..+")
    bias = f"{attention.format(layers - 1)}.relative_attention_bias.weight"
    if bias not in header.tensors:
        raise ModelError(
            what=f"'{header.name}' is a plain T5 text encoder.",
            why="Wan reads its prompts with UMT5, which has position weights in every layer.",
            fix="Choose umt5_xxl_fp16.safetensors or umt5-xxl-enc-bf16.safetensors.",
        )
    buckets, heads = header.shape(bias)
    vocab, width = header.shape("shared.weight")
    config = {
        "vocab_size": vocab,
        "d_model": width,
        "d_kv": header.shape(f"{attention.format(0)}.q.weight")[0] // heads,
        "d_ff": header.shape("encoder.block.0.layer.1.DenseReluDense.wi_0.weight")[0],
        "num_layers": layers,
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        # google/umt5-xxl config.json
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "gated-gelu",
    }
    return config | {key: v for key, v in stored_config(header).items() if key in config}


def image_config(identity: Identity) -> dict[str, Any]:
    """Arguments of transformers' `CLIPVisionConfig`."""
    header = identity.header
    width = header.shape("embeddings.class_embedding")[0]
    patch = header.shape("embeddings.patch_embedding.weight")[2]
    positions = header.shape("embeddings.position_embedding.weight")[0]
    # ViT-H, which Wan uses, has 16 heads of 80 (Wan-Video/Wan2.1 wan/modules/clip.py); other
    # CLIPs have heads of 64, our miniature heads of 8
    head_dim = 80 if width == 1280 else 64 if width % 64 == 0 else 8
    config = {
        "hidden_size": width,
        "intermediate_size": header.shape("encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": count(header.tensors, r"encoder\.layers\.(\d+)\..+"),
        "num_attention_heads": width // head_dim,
        "image_size": math.isqrt(positions - 1) * patch,  # one position is the class token's
        "patch_size": patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }
    return config | {key: v for key, v in stored_config(header).items() if key in config}


def stored_config(header: Header) -> dict[str, Any]:
    """What the file's metadata or the `config.json` beside it says, without empty entries.

    A `config.json` counts only beside files with the standard names of a model folder: in a
    folder of many models it would be a stranger's.
    """
    if METADATA_KEY in header.metadata:
        return _known(json.loads(header.metadata[METADATA_KEY]))
    folder = header.path if header.path.is_dir() else header.path.parent
    named = header.path.is_dir() or header.path.name.endswith(INDEX_SUFFIX)
    named = named or header.path.name in (
        "diffusion_pytorch_model.safetensors",
        "model.safetensors",
    )
    file = folder / "config.json"
    if not named or not file.is_file():
        return {}
    try:
        stored = json.loads(file.read_text("utf-8"))
        kind = stored.get("_class_name") or stored.get("model_type")
    except (ValueError, AttributeError):
        raise ModelError(
            what=f"'{file}' is not a model configuration.",
            why="It must be a JSON object; it tells the number of attention heads.",
            fix="Delete the file and download it again.",
        ) from None
    if kind in _ORIGINAL_CLASSES:
        return _known({b: stored.get(a) for a, b in _ORIGINAL_NAMES.items()})
    return _known(stored) if kind in (*_STANDARD_CLASSES, *_TRANSFORMERS_TYPES) else {}


def _known(stored: dict[str, Any]) -> dict[str, Any]:
    """Entries with a value, checked: a model may not be built with any size whatever."""
    for key, value in stored.items():
        if isinstance(value, int) and not 0 <= value <= _LARGEST:
            raise ValueError(f"{key} is {value}")
    heads = stored.get("num_attention_heads")
    if heads is not None and (not isinstance(heads, int) or heads < 1):
        raise ValueError(f"num_attention_heads is {heads!r}")
    return {key: value for key, value in stored.items() if value is not None}


def count(names: Iterable[str], pattern: str) -> int:
    """How many different numbers `pattern` captures in `names`.

    Not the highest of them: a damaged name could ask for millions of layers. A gap is found when
    the names are compared with the model's.
    """
    compiled = re.compile(pattern)
    return len({match[1] for name in names if (match := compiled.fullmatch(name))})
