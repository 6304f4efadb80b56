"""Quantised files give what the same numbers give unquantised, and nearly what the model gives.

Two tolerances, each with its reason:
ROUNDING: against a model that was given the decoded numbers in float32. Both compute the same
    products; only the kernels' order of summing differs, as weights lie at other addresses.
allowed: against the unquantised model, root mean square of the error over that of the output. The
    relative error of one number, as a root mean square, times the root of the number of matrices
    that a value passes one after the other: their errors are independent.
"""

import pytest
import torch
from formats import encode_fp8, gguf_file, is_layer, llama_names, plain_fp8, scaled_fp8, write
from safetensors.torch import load_file
from test_layouts import denoise, randn
from wan_local.wan.load.header import read_header
from wan_local.wan.load.image import load_image_encoder
from wan_local.wan.load.inspect import identify
from wan_local.wan.load.text import load_text_encoder
from wan_local.wan.load.transformer import load_transformer
from wan_local.wan.load.vae import load_vae
from wan_local.wan.quantised import QuantisedLinear, quantised_names

ROUNDING = 4e-6
# Of one number: uniform in a step of 2^-3 (3 bits of mantissa), 2^-2 and 2^-7, averaged over an
# octave; and for Q8_0 in a step of 1/127 of the largest of 32 normal numbers, which is 2.1.
ERROR = {"e4m3fn": 0.026, "e5m2": 0.052, "BF16": 0.0016, "Q8_0": 0.0048}
# Two for each attention and feed-forward part of a block, two for a face adapter, one embedding.
DEPTH = {"i2v": 12, "flf2v": 12, "animate": 32, "text": 9, "image": 5}
FP8 = {"e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}
NAMES = {"i2v": "wan2.1_i2v_tiny", "animate": "wan2.2_animate_tiny", "flf2v": "wan2.1_flf2v_tiny"}


def source_of(tiny, name):
    return tiny / f"comfyui/diffusion_models/{NAMES[name]}.safetensors"


def allowed(kind, model):
    return ERROR[kind] * DEPTH[model] ** 0.5


def loss(found, expected):
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def check(path, reference, name, kind):
    """The file at `path` against decoded numbers in the file `reference`, and the model itself."""
    model = load_transformer(path, torch.float32)
    found = denoise(model, name)
    expected = denoise(load_transformer(reference, torch.float32), name)
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
    return model, found


def decoded_fp8(source, path, dtype, is_scaled, per_row=False):
    def through(tensor):
        if not is_scaled:
            return tensor.to(dtype).float()
        small, scale = encode_fp8(tensor, dtype, per_row)
        return small.float() * scale

    tensors = load_file(source)
    return write(path, {n: through(t) if is_layer(n, t) else t for n, t in tensors.items()}, source)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FP8)
def test_plain_fp8_transformer(tiny, tmp_path, name, kind):
    source = source_of(tiny, name)
    path = plain_fp8(source, tmp_path / "fp8.safetensors", FP8[kind])
    reference = decoded_fp8(source, tmp_path / "reference.safetensors", FP8[kind], False)
    model, found = check(path, reference, name, kind)
    layer = model.blocks[0].ffn.net[2]
    assert layer.stored.dtype is FP8[kind] and layer.weight is None
    assert (
        0
        < loss(found, denoise(load_transformer(source, torch.float32), name))
        < allowed(kind, name)
    )


@pytest.mark.parametrize("per_row", [False, True], ids=["one scale", "by row"])
@pytest.mark.parametrize("spelling", ["scale_weight", "comfy_quant", "weight_scale"])
@pytest.mark.parametrize("name", ["i2v", "animate"])
@pytest.mark.parametrize("kind", FP8)
def test_scaled_fp8_transformer(tiny, tmp_path, name, kind, spelling, per_row):
    source = source_of(tiny, name)
    path = scaled_fp8(source, tmp_path / "fp8.safetensors", FP8[kind], spelling, per_row)
    reference = decoded_fp8(source, tmp_path / "reference.safetensors", FP8[kind], True, per_row)
    model, found = check(path, reference, name, kind)
    assert model.blocks[0].attn1.to_q.stored.dtype is FP8[kind]
    assert (
        0
        < loss(found, denoise(load_transformer(source, torch.float32), name))
        < allowed(kind, name)
    )
    assert identify(read_header(path)).storage == f"scaled fp8 ({kind.removesuffix('fn')})"


@pytest.mark.parametrize("name", ["i2v", "animate"])
@pytest.mark.parametrize("kind", ["Q8_0", "BF16"])
def test_gguf_transformer(tiny, tmp_path, name, kind):
    source = source_of(tiny, name)
    path = gguf_file(source, tmp_path / "model.gguf", kind, flat_convolutions=name == "i2v")
    model = load_transformer(path, torch.float32)
    expected = denoise(load_transformer(source, torch.float32), name)
    assert loss(denoise(model, name), expected) < allowed(kind, name)
    assert bool(quantised_names(model)) == (kind == "Q8_0")


TEXT_IDS = torch.tensor([[100, 35, 102, 100, 119, 1, 0, 0]])


@torch.no_grad()
def encode(model):
    return model(TEXT_IDS, attention_mask=TEXT_IDS.ne(0))[0].float()


def text_source(tiny, tmp_path, names):
    """ComfyUI's text encoder, or that of the authors and kijai, who name tensors otherwise."""
    if names == "comfyui":
        return tiny / "comfyui/text_encoders/umt5_tiny.safetensors"
    tensors = torch.load(tiny / "official/models_t5_umt5-tiny.pth")
    return write(tmp_path / "umt5.safetensors", tensors)


@pytest.mark.parametrize("names", ["comfyui", "kijai"])
@pytest.mark.parametrize("kind", FP8)
@pytest.mark.parametrize("is_scaled", [False, True], ids=["plain", "scaled"])
def test_fp8_text_encoder(tiny, tmp_path, names, kind, is_scaled):
    source = text_source(tiny, tmp_path, names)
    path, dtype = tmp_path / "fp8.safetensors", FP8[kind]
    if is_scaled:
        scaled_fp8(source, path, dtype, "scale_weight")
    else:
        plain_fp8(source, path, dtype)
    reference = decoded_fp8(source, tmp_path / "reference.safetensors", dtype, is_scaled)
    model = load_text_encoder(path, torch.float32)
    found, expected = encode(model), encode(load_text_encoder(reference, torch.float32))
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
    assert loss(found, encode(load_text_encoder(source, torch.float32))) < allowed(kind, "text")
    # two layers of four attention and three feed-forward matrices
    assert len(quantised_names(model)) == 14


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fp8_text_encoder_in_half_precision(tiny, tmp_path, dtype):
    """transformers asks the output layer for its type: it may not take fp8 for an answer."""
    source = text_source(tiny, tmp_path, "comfyui")
    path = scaled_fp8(source, tmp_path / "fp8.safetensors", FP8["e4m3fn"], "scale_weight")
    model = load_text_encoder(path, dtype)
    expected = encode(load_text_encoder(path, torch.float32))
    # bf16 numbers have errors up to 2^-9 each, and a layer makes a dozen of them
    assert loss(encode(model), expected) < 0.03
    wo = model.encoder.block[0].layer[1].DenseReluDense.wo
    # float16 overflows there, so transformers keeps it in float32
    assert isinstance(wo, QuantisedLinear) == (dtype is torch.bfloat16)


def test_gguf_text_encoder_with_llama_names(tiny, tmp_path):
    source = text_source(tiny, tmp_path, "comfyui")
    tensors = {n: t for n, t in load_file(source).items() if n != "spiece_model"}
    bare = write(tmp_path / "umt5.safetensors", tensors)
    path = gguf_file(bare, tmp_path / "umt5.gguf", "Q8_0", llama_names(tensors))
    expected = encode(load_text_encoder(source, torch.float32))
    model = load_text_encoder(path, torch.float32)
    assert loss(encode(model), expected) < allowed("Q8_0", "text")
    assert len(quantised_names(model)) == 14
    # one token embedding for both names, decoded
    assert model.encoder.embed_tokens.weight is model.shared.weight


@torch.no_grad()
def test_fp8_image_encoder_with_stacked_attention(tiny, tmp_path):
    """The authors' layout keeps query, key and value in one matrix, with one scale or one a row."""
    whole = torch.load(tiny / "official/models_clip_tiny.pth")
    visual = {n: t for n, t in whole.items() if n.startswith("visual.") and n != "visual.head"}
    source = write(tmp_path / "clip.safetensors", visual)
    pixels = randn(2, 3, 28, 28)
    plain = load_image_encoder(source, torch.float32)
    expected = plain(pixels, output_hidden_states=True).hidden_states[-2]
    for per_row in (False, True):
        path = tmp_path / f"fp8-{per_row}.safetensors"
        scaled_fp8(source, path, FP8["e4m3fn"], "weight_scale", per_row)
        model = load_image_encoder(path, torch.float32)
        found = model(pixels, output_hidden_states=True).hidden_states[-2]
        assert loss(found, expected) < allowed("e4m3fn", "image")
        assert any(name.endswith("q_proj.weight") for name in quantised_names(model))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bf16", "e4m3fn"])
def test_vae_of_another_type_computes_in_float32(tiny, tmp_path, kind):
    """kijai's Wan2_1_VAE_bf16; nobody publishes an fp8 one, but it would be read."""
    source = tiny / "comfyui/vae/wan_2.1_vae_tiny.safetensors"
    dtype = torch.bfloat16 if kind == "bf16" else FP8[kind]
    tensors = {n: t.to(dtype) for n, t in load_file(source).items()}
    model = load_vae(write(tmp_path / "vae.safetensors", tensors))
    reference = write(
        tmp_path / "reference.safetensors", {n: t.float() for n, t in tensors.items()}
    )
    latents = randn(1, 16, 2, 4, 4)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.decode(latents).sample, load_vae(reference).decode(latents).sample)
