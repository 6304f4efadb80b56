"""Detection on the names and shapes of the full-size models, without any weights."""

import json
from pathlib import Path

import pytest
from wan_local.wan.errors import ModelError
from wan_local.wan.load.config import image_config, text_config, transformer_config, vae_config
from wan_local.wan.load.fill import check_fit
from wan_local.wan.load.header import Header, TensorInfo
from wan_local.wan.load.image import build_image_encoder
from wan_local.wan.load.inspect import Kind, Layout, expect, find_variant, identify, may_serve
from wan_local.wan.load.text import build_text_encoder
from wan_local.wan.load.transformer import build_transformer
from wan_local.wan.load.vae import build_vae
from wan_local.wan.payloads import Variant

OFFICIAL = json.loads(Path(__file__).with_name("official_keys.json").read_text("utf-8"))
REAL = {
    "patch_size": (1, 2, 2),
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
# channels of the LIA motion encoder (diffusers WAN_ANIMATE_MOTION_ENCODER_CHANNEL_SIZES)
MOTION = {"4": 512, "8": 512, "16": 512, "32": 512, "64": 256, "128": 128, "256": 64, "512": 32}


def official(model, prefix="", dtype="BF16"):
    tensors = {}
    for pattern, (shape, count) in OFFICIAL[model].items():
        for i in range(count):
            tensors[prefix + pattern.replace("{}", str(i))] = TensorInfo(dtype, tuple(shape))
    return Header(Path(f"{model}.safetensors"), tensors)


def changed(header, **shapes):
    """The header with other tensors: `name__with__dots=shape`, None to leave one out."""
    tensors = dict(header.tensors)
    for name, shape in shapes.items():
        name = name.replace("__", ".")
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = TensorInfo("BF16", shape)
    return header.renamed(tensors)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize(
    ("model", "variant"),
    [("i2v_14B", Variant.I2V), ("flf2v_14B", Variant.FLF2V), ("animate_14B", Variant.ANIMATE)],
)
def test_full_size_transformer_is_known_and_fits(model, variant, prefix):
    identity = identify(official(model, prefix))
    assert (identity.kind, identity.prefix) == (Kind.TRANSFORMER, prefix)
    assert find_variant(identity) is variant
    config = transformer_config(identity)
    assert {key: config[key] for key in REAL} == REAL
    assert config["pos_embed_seq_len"] == (514 if variant is Variant.FLF2V else None)
    if variant is Variant.ANIMATE:
        assert config["motion_encoder_channel_sizes"] == MOTION
        assert (config["motion_encoder_size"], config["motion_style_dim"]) == (512, 512)
        assert (config["motion_dim"], config["motion_encoder_dim"]) == (20, 512)
        assert (config["face_encoder_hidden_dim"], config["face_encoder_num_heads"]) == (1024, 4)
        assert config["inject_face_latents_blocks"] == 5
    if not prefix:
        check_fit(identity.header, build_transformer(variant, config))


def test_full_size_vae_fits():
    identity = expect(official("vae"), Kind.VAE)
    config = vae_config(identity)
    assert (config["base_dim"], config["z_dim"], config["dim_mult"]) == (96, 16, [1, 2, 4, 4])
    assert config["temperal_downsample"] == [False, True, True]
    check_fit(identity.header, build_vae(config))


def test_full_size_text_encoder_fits():
    identity = expect(official("umt5_xxl"), Kind.TEXT_ENCODER)
    config = text_config(identity)
    assert (config["vocab_size"], config["d_model"], config["d_ff"]) == (256384, 4096, 10240)
    assert (config["num_layers"], config["num_heads"], config["d_kv"]) == (24, 64, 64)
    check_fit(identity.header, build_text_encoder(config), ("encoder.embed_tokens.weight",))


@pytest.mark.parametrize("model", ["i2v_14B", "animate_14B", "umt5_xxl"])
@pytest.mark.parametrize("scale", [None, "scale_weight", "weight_scale"])
def test_full_size_fp8_fits(model, scale):
    """Layers in fp8, with and without scales; the rest as in the published files."""
    header = official(model)
    tensors = dict(header.tensors)
    for name, info in header.tensors.items():
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and len(info.shape) == 2 and "blocks." in name:
            tensors[name] = info._replace(dtype="F8_E4M3")
            if scale:
                tensors[f"{layer}.{scale}"] = TensorInfo("F32", ())
    if scale == "scale_weight":
        tensors["scaled_fp8"] = TensorInfo("F8_E4M3", (2,))
    identity = identify(header.renamed(tensors))
    assert identity.storage == ("scaled fp8 (e4m3)" if scale else "fp8 (e4m3)")
    if model == "umt5_xxl":
        check_fit(
            identity.header,
            build_text_encoder(text_config(identity)),
            ("encoder.embed_tokens.weight",),
        )
    else:
        variant = find_variant(identity)
        check_fit(identity.header, build_transformer(variant, transformer_config(identity)))


@pytest.mark.parametrize("prefix", ["", "visual."])
def test_full_size_image_encoder_fits(prefix):
    identity = expect(official("clip_vit_h", prefix), Kind.IMAGE_ENCODER)
    config = image_config(identity)
    assert (config["hidden_size"], config["num_attention_heads"]) == (1280, 16)
    assert (config["image_size"], config["num_hidden_layers"]) == (224, 32)
    check_fit(identity.header, build_image_encoder(config))


def test_standard_names_need_no_conversion():
    first = identify(official("animate_14B"))
    again = identify(first.header)
    assert (first.layout, again.layout) == (Layout.ORIGINAL, Layout.STANDARD)
    assert again.header.tensors == first.header.tensors


def test_fun_inp_1_3b_is_image_to_video():
    small = {
        name: TensorInfo(info.dtype, tuple({5120: 1536, 13824: 8960}.get(n, n) for n in info.shape))
        for name, info in official("i2v_14B").tensors.items()
    }
    config = transformer_config(identify(official("i2v_14B").renamed(small)))
    assert (config["num_attention_heads"], config["attention_head_dim"]) == (12, 128)


IMAGE_PARTS = [name for name in OFFICIAL["i2v_14B"] if name.startswith("img_emb")]
NO_IMAGE = {name.replace(".", "__"): None for name in IMAGE_PARTS}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"patch_embedding.weight": (5120, 16, 1, 2, 2)},
            r"text-to-video model \(16 input channels",
        ),
        ({}, "A14B image-to-video"),
        (
            {"patch_embedding.weight": (5120, 48, 1, 2, 2), "head.head.weight": (192, 5120)},
            "TI2V-5B",
        ),
        ({"patch_embedding.weight": (5120, 48, 1, 2, 2)}, "Fun-Control"),
        ({"patch_embedding.weight": (5120, 32, 1, 2, 2)}, "camera-control"),
        ({"patch_embedding.weight": (5120, 20, 1, 2, 2)}, r"unknown kind \(20 input channels"),
        ({"vace_blocks.0.after_proj.weight": (5120, 5120)}, "VACE"),
        ({"casual_audio_encoder.weights": (1, 25, 1, 1)}, "S2V"),
        ({"control_adapter.conv.weight": (5120, 4, 2, 2)}, "camera-control"),
        ({"audio_proj.proj1.weight": (5120, 4)}, "audio"),
    ],
)
def test_other_wan_models_are_named(changes, text):
    changes = {name.replace(".", "__"): shape for name, shape in changes.items()}
    header = changed(official("i2v_14B"), **NO_IMAGE, **changes)
    with pytest.raises(ModelError, match=text) as error:
        find_variant(identify(header))
    assert "wan2.1_i2v_480p_14B_fp16" in error.value.fix


def test_animate_without_motion_encoder_is_incomplete():
    header = official("animate_14B")
    kept = {n: t for n, t in header.tensors.items() if not n.startswith("motion_encoder")}
    with pytest.raises(ModelError, match="incomplete Wan Animate"):
        find_variant(identify(header.renamed(kept)))


def test_a31_animate_without_face_adapter_is_no_animate_model():
    header = official("animate_14B")
    kept = {n: t for n, t in header.tensors.items() if not n.startswith("face_adapter")}
    with pytest.raises(ModelError, match="not an Animate model"):
        find_variant(identify(header.renamed(kept)))


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"blocks.0.ffn.0.weight_scale_2": "F32"}, "nvfp4"),
        ({"blocks.0.ffn.0.weight_qtype": "U8"}, "quanto int8"),
        ({"blocks.0.ffn.0.qweight": "I32"}, "4-bit"),
    ],
)
def test_formats_that_cannot_be_read_are_named(extra, text):
    header = official("i2v_14B", "model.diffusion_model.")
    added = {f"model.diffusion_model.{n}": TensorInfo(t, (1,)) for n, t in extra.items()}
    with pytest.raises(ModelError, match=text) as error:
        identify(header.renamed(header.tensors | added))
    assert "fp8 safetensors files (plain or scaled) and from GGUF" in error.value.why


@pytest.mark.parametrize("model", ["i2v_14B", "umt5_xxl"])
@pytest.mark.parametrize(
    ("dtype", "text"), [("I8", "8-bit integer"), ("U8", "packed 4-bit"), ("F4", "fp4")]
)
def test_types_that_cannot_be_read_are_named(model, dtype, text):
    with pytest.raises(ModelError, match=text):
        identify(official(model, dtype=dtype))


def test_quanto_files_are_named():
    header = official("i2v_14B")
    tensors = {
        f"{n}._data" if n.endswith("attn.q.weight") else n: TensorInfo("I8", t.shape)
        for n, t in header.tensors.items()
    }
    with pytest.raises(ModelError, match="quanto"):
        identify(header.renamed(tensors))


@pytest.mark.parametrize("model", ["vae", "umt5_xxl", "clip_vit_h"])
def test_wrong_part_for_transformer_is_named(model):
    header = official(model)
    with pytest.raises(ModelError, match="not a Wan transformer"):
        expect(header, Kind.TRANSFORMER)


def test_transformer_for_vae_is_named():
    with pytest.raises(ModelError, match="is a Wan transformer, not a Wan VAE"):
        expect(official("i2v_14B"), Kind.VAE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("diffusion_model.blocks.0.self_attn.q.lora_A.weight", "is a LoRA"),
        ("lora_unet_blocks_0_self_attn_q.lora_down.weight", "is a LoRA"),
        ("double_blocks.0.img_attn.qkv.weight", "Flux or Hunyuan"),
        ("model.diffusion_model.input_blocks.0.0.weight", "Stable Diffusion UNet"),
        ("decoder.conv_in.weight", "VAE of an image model"),
        ("text_model.encoder.layers.0.mlp.fc1.weight", "CLIP text encoder"),
        ("visual.transformer.resblocks.0.mlp.c_fc.weight", "open_clip"),
        ("model.layers.0.self_attn.q_proj.weight", "language model"),
        ("something.else", r"no part of a Wan model \(1 tensors, first: something.else"),
    ],
)
def test_strangers_are_named(name, text):
    with pytest.raises(ModelError, match=text):
        identify(Header(Path("x.safetensors"), {name: TensorInfo("F16", (4, 4))}))


def test_empty_file_is_named():
    with pytest.raises(ModelError, match="0 tensors"):
        identify(Header(Path("x.safetensors"), {}))


def test_wan_2_2_vae_is_named():
    header = changed(official("vae"), conv2__weight=(48, 48, 1, 1, 1))
    with pytest.raises(ModelError, match="48 latent channels") as error:
        vae_config(identify(header))
    assert "wan_2.1_vae" in error.value.fix


def test_plain_t5_is_named():
    header = identify(official("umt5_xxl")).header
    only_first = {n: t for n, t in header.tensors.items() if "relative" not in n or "block.0." in n}
    with pytest.raises(ModelError, match="plain T5"):
        text_config(identify(header.renamed(only_first)))


def test_lost_and_extra_tensors_are_counted():
    header = changed(
        official("i2v_14B"),
        blocks__3__ffn__0__bias=None,
        blocks__4__ffn__0__bias=None,
        blocks__5__norm3__bias=(7,),
        new__thing=(1,),
    )
    identity = identify(header)
    module = build_transformer(Variant.I2V, transformer_config(identity))
    with pytest.raises(ModelError) as error:
        check_fit(identity.header, module)
    assert "2 missing (first 'blocks.3.ffn.net.0.proj.bias')" in error.value.what
    assert "1 left over (first 'new.thing')" in error.value.what
    assert "(first 'blocks.5.norm2.bias': [7] instead of [5120])" in error.value.what


def test_width_without_known_heads_asks_for_the_config():
    narrow = {
        name: TensorInfo(info.dtype, tuple(48 if n == 5120 else n for n in info.shape))
        for name, info in official("i2v_14B").tensors.items()
    }
    with pytest.raises(ModelError, match="48 wide"):
        transformer_config(identify(official("i2v_14B").renamed(narrow)))


def test_what_is_offered_is_all_but_what_surely_cannot_serve():
    i2v = official("i2v_14B")
    for kind in Kind:
        assert may_serve(i2v, kind) is (kind is Kind.TRANSFORMER)
    # Its error says more than its absence.
    nvfp4 = changed(i2v, blocks__0__self_attn__q__weight_scale_2=())
    with pytest.raises(ModelError, match="nvfp4"):
        identify(nvfp4)
    assert may_serve(nvfp4, Kind.TRANSFORMER) and not may_serve(nvfp4, Kind.VAE)
    text_to_video = changed(i2v, patch_embedding__weight=(5120, 16, 1, 2, 2))
    assert not may_serve(text_to_video, Kind.TRANSFORMER)
    other = Header(Path("flux.safetensors"), {"double_blocks.0.x": TensorInfo("BF16", (3,))})
    assert not any(may_serve(other, kind) for kind in Kind)
