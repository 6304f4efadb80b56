"""The transformer of Wan 2.1 I2V 14B: Wan-Video/Wan2.1 wan/configs/wan_i2v_14B.py."""

CONFIG = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "image_dim": 1280,
    "added_kv_proj_dim": 5120,
}

SMALL = {**CONFIG, "num_attention_heads": 4, "attention_head_dim": 32, "ffn_dim": 256}
"""The same in miniature."""
SMALL |= {"text_dim": 64, "num_layers": 6, "image_dim": 32, "added_kv_proj_dim": 128}
