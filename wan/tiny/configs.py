"""Sizes of the miniatures, and the small JSON files of a Diffusers folder.

Every argument that cannot be read from tensor shapes has the value of the real models, so that
the single files load without a configuration. Exception: the number of heads.
"""

from __future__ import annotations

from typing import Any

from ..load.tokenizer import END
from ..payloads import Variant
from ..upsample.rife.layout import Encoder, Layout

# engine.md 6, but rope_max_seq_len, motion_encoder_batch_size and relative_attention_max_distance
# keep their real values
_I2V: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 96,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": 32,
    "added_kv_proj_dim": 48,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}
TRANSFORMERS: dict[Variant, dict[str, Any]] = {
    Variant.I2V: _I2V,
    # two images of 5 tokens each
    Variant.FLF2V: _I2V | {"pos_embed_seq_len": 10},
    Variant.ANIMATE: _I2V
    | {
        "num_layers": 5,
        "latent_channels": 16,
        "motion_encoder_size": 64,
        "motion_encoder_channel_sizes": {str(size): 16 for size in (4, 8, 16, 32, 64)},
        "motion_style_dim": 16,
        "motion_dim": 8,
        "motion_encoder_dim": 16,
        "face_encoder_hidden_dim": 16,
        "face_encoder_num_heads": 2,
        "inject_face_latents_blocks": 5,
    },
}
MINIMUMS = {"resolution_width": 64, "resolution_height": 64, "sampling_steps": 1, "num_frames": 1}
"""What the miniatures allow below the ranges of the apps' pages, so that a try takes seconds."""
MOTION_BLOCKS = 4
"""Residual blocks of the motion encoder: 64, 32, 16, 8 pixels, then 4."""
FOLDERS = {
    Variant.I2V: "wan2.1-i2v",
    Variant.FLF2V: "wan2.1-flf2v",
    Variant.ANIMATE: "wan2.2-animate",
}
SINGLE_FILES = {
    Variant.I2V: "wan2.1_i2v_tiny.safetensors",
    Variant.FLF2V: "wan2.1_flf2v_tiny.safetensors",
    Variant.ANIMATE: "wan2.2_animate_tiny.safetensors",
}
VAE: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_scales": [],
    "temperal_downsample": [False, True, True],
}
TEXT_ENCODER: dict[str, Any] = {
    "vocab_size": 259,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "feed_forward_proj": "gated-gelu",
}
IMAGE_ENCODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
}
RIFE = Layout("4 of an unusual size", (16, 12, 8, 8), (8, 4, 2, 1), 2, encoder=Encoder(2, 16, 4))
"""As RIFE 4.7, but narrower and with two residual convolutions a block."""
# openai/CLIP: mean and standard deviation of the training pictures
_CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
_VERSION = "0.37.1"  # of diffusers: what a folder of that age says


def part_configs(variant: Variant) -> dict[str, dict[str, Any]]:
    """The JSON files of a Diffusers folder, by path in it."""
    is_animate = variant is Variant.ANIMATE
    model_class = "WanAnimateTransformer3DModel" if is_animate else "WanTransformer3DModel"
    return {
        "model_index.json": _model_index(is_animate, model_class),
        "transformer/config.json": _diffusers(model_class, TRANSFORMERS[variant]),
        "vae/config.json": _diffusers("AutoencoderKLWan", VAE),
        "text_encoder/config.json": {
            "architectures": ["UMT5EncoderModel"],
            "model_type": "umt5",
            "pad_token_id": 0,
            "eos_token_id": 1,
            "is_gated_act": True,
            "dense_act_fn": "gelu_new",
            **TEXT_ENCODER,
        },
        "image_encoder/config.json": {
            "architectures": ["CLIPVisionModel"],
            "model_type": "clip_vision_model",
            **IMAGE_ENCODER,
        },
        "image_processor/preprocessor_config.json": _image_processor(),
        "scheduler/scheduler_config.json": _diffusers(
            "UniPCMultistepScheduler",
            {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0},
        ),
        "tokenizer/tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "<pad>",
            "eos_token": END,
            "unk_token": "<unk>",
            "model_max_length": 512,
        },
    }


def official_config() -> dict[str, Any]:
    """`config.json` as the model's authors write it (Wan-Video/Wan2.1, WanModel)."""
    heads, head_dim = _I2V["num_attention_heads"], _I2V["attention_head_dim"]
    return {
        "_class_name": "WanModel",
        "model_type": "i2v",
        "dim": heads * head_dim,
        "num_heads": heads,
        "num_layers": _I2V["num_layers"],
        "ffn_dim": _I2V["ffn_dim"],
        "freq_dim": _I2V["freq_dim"],
        "in_dim": _I2V["in_channels"],
        "out_dim": _I2V["out_channels"],
        "eps": _I2V["eps"],
        "text_len": 512,
    }


def _diffusers(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"_class_name": class_name, "_diffusers_version": _VERSION, **config}


def _model_index(is_animate: bool, model_class: str) -> dict[str, Any]:
    return {
        "_class_name": "WanAnimatePipeline" if is_animate else "WanImageToVideoPipeline",
        "_diffusers_version": _VERSION,
        "image_encoder": ["transformers", "CLIPVisionModel"],
        "image_processor": ["transformers", "CLIPImageProcessor"],
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", model_class],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }


def _image_processor() -> dict[str, Any]:
    size = IMAGE_ENCODER["image_size"]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _CLIP_MEAN,
        "image_std": _CLIP_STD,
        "do_convert_rgb": True,
    }
