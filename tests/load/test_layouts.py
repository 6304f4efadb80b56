"""Every part gives the same numbers from every layout, and those of the stock loaders."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from wan_local.wan.errors import ModelError
from wan_local.wan.load.image import load_image_encoder
from wan_local.wan.load.text import load_text_encoder
from wan_local.wan.load.transformer import load_transformer
from wan_local.wan.load.vae import load_vae

VARIANTS = {
    "wan2.1-i2v": "wan2.1_i2v_tiny",
    "wan2.1-flf2v": "wan2.1_flf2v_tiny",
    "wan2.2-animate": "wan2.2_animate_tiny",
}
OFFICIAL_INDEX = "official/diffusion_pytorch_model.safetensors.index.json"


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def denoise(model, name):
    images = 2 if "flf2v" in name else 1
    arguments = {
        "hidden_states": randn(1, 36, 3, 8, 8),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": randn(1, 512, 32, seed=1),
        "encoder_hidden_states_image": randn(images, 5, 32, seed=2),
    }
    if "animate" in name:
        arguments["pose_hidden_states"] = randn(1, 16, 2, 8, 8, seed=3)
        arguments["face_pixel_values"] = randn(1, 3, 5, 64, 64, seed=4)
    dtype = model.patch_embedding.weight.dtype
    arguments = {n: t if n == "timestep" else t.to(dtype) for n, t in arguments.items()}
    return model(**arguments, return_dict=False)[0]


def stock_transformer(folder, **kwargs):
    from diffusers import WanAnimateTransformer3DModel, WanTransformer3DModel

    stock = WanAnimateTransformer3DModel if "animate" in folder.name else WanTransformer3DModel
    return stock.from_pretrained(folder, subfolder="transformer", **kwargs).eval()


@pytest.mark.parametrize("name", VARIANTS)
def test_transformer_is_the_same_from_each_layout(tiny, name):
    folder = tiny / "diffusers" / name
    expected = denoise(stock_transformer(folder), name)
    paths = [
        folder / "transformer",
        tiny / f"comfyui/diffusion_models/{VARIANTS[name]}.safetensors",
    ]
    if "i2v" in name:
        paths.append(tiny / OFFICIAL_INDEX)
    for path in paths:
        found = denoise(load_transformer(path, torch.float32), name)
        # weights lie mapped at the file's offsets, and matrix kernels sum in another order where
        # those are aligned differently: one or two units in the last place
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6, msg=str(path))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_types_are_those_of_the_stock_loader(tiny, name, dtype):
    folder = tiny / "diffusers" / name
    stock = stock_transformer(folder, torch_dtype=dtype)
    single = load_transformer(
        tiny / f"comfyui/diffusion_models/{VARIANTS[name]}.safetensors", dtype
    )
    for kind in ("named_parameters", "named_buffers"):
        expected = {n: t.dtype for n, t in getattr(stock, kind)()}
        assert {n: t.dtype for n, t in getattr(single, kind)()} == expected
    for (name_, ours), (_, theirs) in zip(
        single.named_buffers(), stock.named_buffers(), strict=True
    ):
        assert torch.equal(ours, theirs), name_
    assert torch.equal(denoise(single, name), denoise(stock, name))
    assert single.rope.freqs_cos.dtype is torch.float32


def test_half_precision_file_in_its_own_type(tiny, tmp_path):
    source = load_file(tiny / "comfyui/diffusion_models/wan2.1_flf2v_tiny.safetensors")
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({n: t.bfloat16() for n, t in source.items()}, path)
    config = (tiny / "diffusers/wan2.1-flf2v/transformer/config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    model = load_transformer(tmp_path, torch.bfloat16)
    assert model.blocks[0].attn1.to_q.weight.dtype is torch.bfloat16
    assert model.scale_shift_table.dtype is torch.float32
    assert denoise(model, "flf2v").isfinite().all()


def test_loaded_modules_are_for_inference_only(tiny):
    model = load_transformer(tiny / "diffusers/wan2.2-animate/transformer", torch.float32)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert {t.device.type for t in (*model.parameters(), *model.buffers())} == {"cpu"}


def test_unchanged_type_maps_the_file_instead_of_copying(tiny):
    folder = tiny / "diffusers/wan2.1-i2v/transformer"
    places = [p.data_ptr() for p in load_transformer(folder, torch.float32).parameters()]
    size = (folder / "diffusion_pytorch_model.safetensors").stat().st_size
    assert max(places) - min(places) < size  # views of one mapped file


def vae_paths(tiny):
    yield tiny / "diffusers/wan2.2-animate/vae"
    yield tiny / "comfyui/vae/wan_2.1_vae_tiny.safetensors"
    yield tiny / "official/Wan2.1_VAE.pth"


@torch.no_grad()
def test_vae_is_the_same_from_each_layout(tiny):
    from diffusers import AutoencoderKLWan

    stock = AutoencoderKLWan.from_pretrained(tiny / "diffusers/wan2.1-i2v", subfolder="vae")
    frames, latents = randn(1, 3, 5, 32, 32), randn(1, 16, 2, 4, 4)
    encoded = stock.encode(frames).latent_dist.mode()
    decoded = stock.decode(latents).sample
    for path in vae_paths(tiny):
        model = load_vae(path)
        assert torch.equal(model.encode(frames).latent_dist.mode(), encoded), path
        assert torch.equal(model.decode(latents).sample, decoded), path
        assert model.config.latents_std == stock.config.latents_std


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_text_encoder_is_the_same_from_each_layout(tiny, dtype):
    from transformers import UMT5EncoderModel

    folder = tiny / "diffusers/wan2.1-i2v/text_encoder"
    stock = UMT5EncoderModel.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.tensor([[100, 35, 102, 100, 119, 1, 0, 0]])
    mask = ids.ne(0)
    expected = stock(ids, attention_mask=mask)[0]
    for path in (
        folder,
        tiny / "comfyui/text_encoders/umt5_tiny.safetensors",
        tiny / "official/models_t5_umt5-tiny.pth",
    ):
        model = load_text_encoder(path, dtype)
        assert torch.equal(model(ids, attention_mask=mask)[0], expected), path
        types = {n: p.dtype for n, p in stock.named_parameters()}
        assert {n: p.dtype for n, p in model.named_parameters()} == types
        assert model.encoder.embed_tokens.weight is model.shared.weight


@torch.no_grad()
def test_image_encoder_is_the_same_from_each_layout(tiny):
    from transformers import CLIPVisionModel

    folder = tiny / "diffusers/wan2.1-i2v/image_encoder"
    stock = CLIPVisionModel.from_pretrained(folder).eval()
    pixels = randn(2, 3, 28, 28)
    expected = stock(pixels, output_hidden_states=True).hidden_states[-2]
    assert expected.shape == (2, 5, 32)
    for path in (
        folder,
        tiny / "comfyui/clip_vision/clip_vision_tiny.safetensors",
        tiny / "official/models_clip_tiny.pth",
    ):
        model = load_image_encoder(path, torch.float32)
        found = model(pixels, output_hidden_states=True).hidden_states[-2]
        assert torch.equal(found, expected), path


def test_text_encoder_with_the_tied_name_only(tiny, tmp_path):
    source = load_file(tiny / "comfyui/text_encoders/umt5_tiny.safetensors")
    source["encoder.embed_tokens.weight"] = source.pop("shared.weight")
    save_file(source, tmp_path / "umt5.safetensors")
    model = load_text_encoder(tmp_path / "umt5.safetensors", torch.float32)
    assert torch.equal(model.shared.weight, source["encoder.embed_tokens.weight"])


def test_prefix_without_model_is_read_too(tiny, tmp_path):
    source = load_file(tiny / "comfyui/diffusion_models/wan2.2_animate_tiny.safetensors")
    path = tmp_path / "x.safetensors"
    save_file({f"diffusion_model.{n}": t for n, t in source.items()}, path)
    model = load_transformer(path, torch.float32)
    assert len(model.face_adapter) == 1


def test_incomplete_transformer_is_refused(tiny, tmp_path):
    path = tiny / "comfyui/diffusion_models/wan2.2_animate_tiny.safetensors"
    source = load_file(path)
    del source["face_adapter.fuser_blocks.0.linear1_kv.bias"]
    save_file(source, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"2 missing \(first 'face_adapter.0.to_k.bias'\)"):
        load_transformer(tmp_path / "x.safetensors", torch.float32)
