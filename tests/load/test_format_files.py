"""Folders of quantised files are found and run; files that cannot work are refused by name."""

import logging
import shutil
import sys
from dataclasses import replace

import pytest
import torch
from formats import gguf_file, llama_names, plain_fp8, scaled_fp8, write
from safetensors.torch import load_file
from test_layouts import denoise
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import MissingFileError, ModelError, UnavailableError
from wan_local.wan.load.header import read_header
from wan_local.wan.load.inspect import identify
from wan_local.wan.load.lora.apply import apply_lora
from wan_local.wan.load.model import find_files, load_model
from wan_local.wan.load.transformer import load_transformer
from wan_local.wan.payloads import Variant, expect_animate
from wan_local.wan.progress import Silent
from wan_local.wan.quantised import quantised_names
from wan_local.wan.residency import DevicePlacement

CPU = DevicePlacement("cpu")
E4M3 = torch.float8_e4m3fn


def transformer_source(tiny, kind="i2v"):
    names = {"i2v": "wan2.1_i2v_tiny", "animate": "wan2.2_animate_tiny"}
    return tiny / f"comfyui/diffusion_models/{names[kind]}.safetensors"


def comfy_folder(tiny, root, transformer, text_encoder):
    """A ComfyUI models folder: two files written by functions from a source, the rest copied."""
    for name in ("vae", "clip_vision"):
        shutil.copytree(tiny / "comfyui" / name, root / name)
    for folder, source, make in (
        ("diffusion_models", transformer_source(tiny), transformer),
        ("text_encoders", tiny / "comfyui/text_encoders/umt5_tiny.safetensors", text_encoder),
    ):
        (root / folder).mkdir()
        make(source, root / folder)
    return root


def run(model):
    """Every part once: prompt, image, transformer, and the decoder."""
    embeds = encode_prompts(model, "a cat runs", None, Silent())
    with model.transformer.on_device() as transformer, model.vae.on_device() as vae:
        latents = denoise(transformer, "i2v")
        with torch.no_grad():
            frames = vae.decode(latents.float()).sample
    assert embeds.positive.isfinite().all() and frames.isfinite().all()
    return latents


def with_scaled_fp8(tiny, root):
    return comfy_folder(
        tiny,
        root,
        lambda source, to: scaled_fp8(source, to / "i2v.safetensors", E4M3, "scale_weight"),
        lambda source, to: scaled_fp8(source, to / "umt5.safetensors", E4M3, "scale_weight"),
    )


def test_scaled_folder_with_the_tokenizer_in_the_text_encoder(tiny, tmp_path, caplog):
    files = find_files(with_scaled_fp8(tiny, tmp_path / "models"), Variant.I2V)
    assert files.tokenizer == files.text_encoder
    with caplog.at_level(logging.INFO, "wan_local"):
        model = load_model(files, CPU)
    assert "scaled fp8 (e4m3), computed in float32" in caplog.text
    assert model.tokenizer.encode("a", 512) == [100, 1]
    run(model)
    with model.transformer.on_device() as transformer, model.text_encoder.on_device() as text:
        assert quantised_names(transformer) and quantised_names(text)


def kijai_text_encoder(tiny, folder):
    tensors = torch.load(tiny / "official/models_t5_umt5-tiny.pth")
    source = write(
        folder / "umt5-xxl-enc-bf16.safetensors", {n: t.bfloat16() for n, t in tensors.items()}
    )
    return source


def test_kijai_files_with_a_tokenizer_beside(tiny, tmp_path):
    root = comfy_folder(
        tiny,
        tmp_path / "models",
        lambda source, to: plain_fp8(source, to / "i2v_fp8_e4m3fn.safetensors", E4M3),
        lambda source, to: kijai_text_encoder(tiny, to),
    )
    vae = root / "vae/wan_2.1_vae_tiny.safetensors"
    write(
        root / "vae/Wan2_1_VAE_bf16.safetensors",
        {n: t.bfloat16() for n, t in load_file(vae).items()},
    )
    vae.unlink()
    shutil.rmtree(root / "clip_vision")
    clip = torch.load(tiny / "official/models_clip_tiny.pth")
    visual = {n: t.half() for n, t in clip.items() if n.startswith("visual.")}
    write(root / "clip_vision/open-clip-visual_fp16.safetensors", visual)
    with pytest.raises(MissingFileError, match="tokenizer: neither in umt5-xxl-enc-bf16"):
        find_files(root, Variant.I2V)
    shutil.copytree(tiny / "official/google/umt5-xxl", root / "text_encoders/tokenizer")
    run(load_model(find_files(root, Variant.I2V), CPU))


def test_a_tokenizer_is_borrowed_from_a_text_encoder_of_the_same_vocabulary(tiny, tmp_path):
    root = with_scaled_fp8(tiny, tmp_path / "models")
    files = find_files(root, Variant.I2V)
    carrier = files.text_encoder
    other = kijai_text_encoder(tiny, root / "text_encoders")
    assert files.replacing(text_encoder=other).tokenizer == carrier
    # another vocabulary is another tokenizer
    tensors = load_file(carrier)
    tensors["shared.weight"] = tensors["shared.weight"][:100].contiguous()
    write(carrier, tensors)
    with_none = replace(files, tokenizer=None).replacing(text_encoder=other)
    assert with_none.tokenizer is None


def test_gguf_folder(tiny, tmp_path):
    def text_encoder(source, to):
        tensors = {n: t for n, t in load_file(source).items() if n != "spiece_model"}
        bare = write(tmp_path / "umt5.safetensors", tensors)
        gguf_file(bare, to / "umt5-Q8_0.gguf", "Q8_0", llama_names(tensors))
        shutil.copytree(tiny / "official/google/umt5-xxl", to / "tokenizer")

    root = comfy_folder(
        tiny,
        tmp_path / "models",
        lambda source, to: gguf_file(source, to / "i2v-Q8_0.gguf", "Q8_0"),
        text_encoder,
    )
    model = load_model(find_files(root, Variant.I2V), CPU)
    assert model.name == "i2v-Q8_0.gguf"
    run(model)


def test_gguf_without_its_package_says_what_to_install(tiny, tmp_path, monkeypatch):
    path = gguf_file(transformer_source(tiny), tmp_path / "i2v.gguf", "Q8_0")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UnavailableError, match="package gguf is not installed") as error:
        load_transformer(path, torch.float32)
    assert "pip install gguf" in error.value.fix


@pytest.mark.parametrize("kind", ["plain", "scaled", "gguf"])
def test_lora_on_a_quantised_transformer(tiny, tmp_path, kind):
    """The patched weight is what a LoRA makes of the decoded one; without it nothing remains."""
    source = transformer_source(tiny)
    make = {
        "plain": lambda: plain_fp8(source, tmp_path / "m.safetensors", E4M3),
        "scaled": lambda: scaled_fp8(source, tmp_path / "m.safetensors", E4M3, "comfy_quant"),
        "gguf": lambda: gguf_file(source, tmp_path / "m.gguf", "Q8_0"),
    }[kind]
    files = find_files(tiny / "comfyui", Variant.I2V)
    model = load_model(replace(files, transformer=make()), CPU)
    target = "blocks.0.ffn.2"  # 96 wide: whole blocks of Q8_0
    up, down = torch.randn(48, 2) * 0.1, torch.randn(2, 96) * 0.1
    factors = {f"{target}.lora_up.weight": up, f"{target}.lora_down.weight": down}
    lora = write(
        tmp_path / "lora.safetensors", {f"diffusion_model.{n}": t for n, t in factors.items()}
    )
    before = run(model)
    with model.transformer.on_device() as transformer:
        layer = transformer.blocks[0].ffn.net[2]
        decoded, stored = layer.decoded(torch.float32), layer.stored.clone()
    changed = apply_lora(model, lora, 0.5)
    with changed.transformer.on_device() as transformer:
        layer = transformer.blocks[0].ffn.net[2]
        expected = decoded + 0.5 * (up @ down)
        torch.testing.assert_close(layer.decoded(torch.float32), expected, rtol=0, atol=1e-6)
    assert not torch.equal(run(changed), before)
    assert torch.equal(run(model), before)
    with model.transformer.on_device() as transformer:
        after = transformer.blocks[0].ffn.net[2].stored
        assert torch.equal(after.view(torch.uint8), stored.view(torch.uint8))


def test_a_device_without_fp8_gets_the_full_weights(tiny, tmp_path, caplog):
    source = transformer_source(tiny)
    path = scaled_fp8(source, tmp_path / "m.safetensors", E4M3, "scale_weight")
    small = load_transformer(path, torch.bfloat16)
    with caplog.at_level(logging.INFO, "wan_local"):
        full = load_transformer(path, torch.bfloat16, unpack_fp8=True)
    assert "its fp8 weights become bfloat16" in caplog.text
    assert quantised_names(small) and not quantised_names(full)
    assert {p.dtype for p in full.parameters()} == {torch.bfloat16, torch.float32}
    assert torch.equal(denoise(small, "i2v"), denoise(full, "i2v"))


def refused(path, text):
    with pytest.raises(ModelError, match=text) as error:
        identify(read_header(path))
        load_transformer(path, torch.float32)
    assert "file" in error.value.fix
    return error.value


def test_scaled_fp8_whose_scales_are_lost(tiny, tmp_path):
    source = transformer_source(tiny)
    path = scaled_fp8(source, tmp_path / "m.safetensors", E4M3, "scale_weight")
    tensors = load_file(path)
    marked = {n: t for n, t in tensors.items() if not n.endswith("ffn.0.scale_weight")}
    refused(
        write(path, marked, source), r"2 of \d+ fp8 weights have no scale, first '.*ffn.0.weight'"
    )
    none = {n: t for n, t in tensors.items() if "scale" not in n}
    refused(write(path, none, source), "fp8 weights without scales, which fill the whole range")


def test_scales_that_cannot_be_applied(tiny, tmp_path):
    source = transformer_source(tiny)
    path = scaled_fp8(source, tmp_path / "m.safetensors", E4M3, "comfy_quant")
    whole = load_file(path)
    scale = next(n for n in whole if n.endswith("ffn.0.weight_scale"))
    layer = scale.removesuffix(".weight_scale")
    refused(write(path, whole | {scale: torch.ones(96, 3)}, source), r"is \[96, 3\] for a weight")
    blocks = torch.ones(96, 2, dtype=torch.uint8)
    refused(write(path, whole | {scale: blocks}, source), "of type U8")
    alone = {n: t for n, t in whole.items() if n != f"{layer}.weight"}
    refused(write(path, alone, source), "1 scales belong to no weight")
    other = torch.tensor(list(b'{"format": "mxfp8"}'), dtype=torch.uint8)
    refused(write(path, whole | {f"{layer}.comfy_quant": other}, source), "format 'mxfp8'")
    other = torch.tensor([255, 0], dtype=torch.uint8)
    refused(write(path, whole | {f"{layer}.comfy_quant": other}, source), "none that can be read")


def test_wrong_model_for_the_graph_is_named(tiny):
    model = load_model(find_files(tiny / "comfyui", Variant.I2V), CPU)
    with pytest.raises(ModelError, match="made for image to video") as error:
        expect_animate(model)
    assert "Wan 2.2 Animate" in error.value.fix


def test_shards_of_two_variants_are_noticed(tiny, tmp_path):
    """A shard of Animate among those of I2V: the download mixed two folders."""
    root = tmp_path / "official"
    shutil.copytree(tiny / "official", root)
    first = next(root.glob("*-00001-of-*"))
    strange = load_file(transformer_source(tiny, "animate"))
    own = load_file(first)
    write(first, own | {n: t for n, t in strange.items() if n.startswith("motion_encoder")})
    with pytest.raises(ModelError, match="not an Animate model that can be used"):
        find_files(root, Variant.I2V)
    write(first, strange)
    with pytest.raises(ModelError):
        load_model(find_files(root, Variant.I2V), CPU)


def test_text_encoder_of_another_width_is_named(tiny, tmp_path):
    files = find_files(tiny / "comfyui", Variant.I2V)
    wide = {
        n: torch.cat([t, t], 0 if n.endswith((".o.weight", ".wo.weight")) else -1).contiguous()
        for n, t in load_file(files.text_encoder).items()
        if n != "spiece_model" and "bias" not in n
    }
    wide = load_file(files.text_encoder) | wide
    path = write(tmp_path / "umt5.safetensors", wide)
    with pytest.raises(ModelError, match=r"gives 64 text features, but .* takes 32"):
        load_model(replace(files, text_encoder=path), CPU)


def test_vae_of_48_channels_is_named(tiny, tmp_path):
    files = find_files(tiny / "comfyui", Variant.I2V)
    tensors = load_file(files.vae)
    tensors["conv2.weight"] = torch.zeros(48, 48, 1, 1, 1)
    path = write(tmp_path / "wan2.2_vae.safetensors", tensors)
    with pytest.raises(ModelError, match="48 latent channels") as error:
        load_model(replace(files, vae=path), CPU)
    assert "TI2V-5B" in error.value.why


def test_lora_of_another_model_is_named(tiny, tmp_path):
    path = plain_fp8(transformer_source(tiny), tmp_path / "m.safetensors", E4M3)
    model = load_model(replace(find_files(tiny / "comfyui", Variant.I2V), transformer=path), CPU)
    wide = {"blocks.0.ffn.2.lora_up.weight": torch.zeros(5120, 2)}
    wide |= {"blocks.0.ffn.2.lora_down.weight": torch.zeros(2, 13824)}
    lora = write(
        tmp_path / "lora.safetensors", {f"diffusion_model.{n}": t for n, t in wide.items()}
    )
    with pytest.raises(ModelError, match="made for a model of another size"):
        apply_lora(model, lora)
    flux = {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.zeros(9, 2)}
    flux |= {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(2, 9)}
    with pytest.raises(ModelError, match="Flux"):
        apply_lora(model, write(tmp_path / "flux.safetensors", flux))
