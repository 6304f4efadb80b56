import gc
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from wan_local.wan.errors import MissingFileError, ModelError
from wan_local.wan.load.files import gather_files
from wan_local.wan.load.model import ModelFiles, find_files, load_model
from wan_local.wan.payloads import Variant
from wan_local.wan.residency import DevicePlacement, default_dtype

CPU = DevicePlacement("cpu")
ROOT = Path(__file__).resolve().parents[2]


def cut(path, size=200):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("layout", ["diffusers", "comfyui"])
def test_model_of_each_kind_is_found_and_loads(tiny, layout, variant):
    model = load_model(find_files(tiny / layout, variant), CPU)
    assert (model.variant, model.is_miniature) == (variant, True)
    assert model.config["in_channels"] == 36
    assert not model.transformer.is_loaded
    with model.transformer.on_device() as transformer, model.vae.on_device() as vae:
        assert transformer.config.num_layers == model.config["num_layers"]
        assert vae.config.z_dim == 16
    assert model.tokenizer.encode("a", 512) == [100, 1]


def test_official_folder_is_found_and_loads(tiny):
    files = find_files(tiny / "official", Variant.I2V)
    assert files.vae.name == "Wan2.1_VAE.pth"
    model = load_model(files, CPU)
    assert (model.name, model.variant) == ("official", Variant.I2V)
    with model.text_encoder.on_device() as text, model.image_encoder.on_device() as image:
        assert text.config.d_model == image.config.hidden_size == 32


def test_names_are_those_the_user_knows(tiny):
    assert load_model(find_files(tiny / "diffusers/wan2.1-i2v"), CPU).name == "wan2.1-i2v"
    file = tiny / "comfyui/diffusion_models/wan2.2_animate_tiny.safetensors"
    assert load_model(find_files(file), CPU).name == "wan2.2_animate_tiny.safetensors"


def test_single_file_finds_the_parts_around_it(tiny):
    file = tiny / "comfyui/diffusion_models/wan2.1_flf2v_tiny.safetensors"
    files = find_files(file)
    assert files.transformer == file
    assert files.vae.parent.name == "vae"
    assert files.tokenizer == files.text_encoder


def test_single_file_alone_lacks_the_others(tiny, tmp_path):
    file = tmp_path / "m.safetensors"
    shutil.copy(tiny / "comfyui/diffusion_models/wan2.1_i2v_tiny.safetensors", file)
    with pytest.raises(MissingFileError, match="other parts"):
        find_files(file)


def test_comfyui_root_works_like_its_models_folder(tiny, tmp_path):
    shutil.copytree(tiny / "comfyui", tmp_path / "models")
    assert find_files(tmp_path, Variant.I2V).vae.is_relative_to(tmp_path / "models")


def test_older_comfyui_folder_names_work(tiny, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(tiny / "comfyui", root)
    (root / "diffusion_models").rename(root / "unet")
    (root / "text_encoders").rename(root / "clip")
    assert find_files(root, Variant.ANIMATE).transformer.parent.name == "unet"


def test_several_kinds_need_a_wanted_one(tiny):
    with pytest.raises(ModelError, match="3 files that can be the transformer"):
        find_files(tiny / "comfyui")
    with pytest.raises(ModelError, match="3 models that could be meant"):
        find_files(tiny / "diffusers")


def test_other_models_beside_are_passed_over(tiny, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(tiny / "comfyui", root)
    save_file({"decoder.conv_in.weight": torch.zeros(1)}, root / "vae/sd.safetensors")
    save_file({"scaled_fp8": torch.zeros(1)}, root / "text_encoders/fp8.safetensors")
    assert find_files(root, Variant.I2V).vae.name == "wan_2.1_vae_tiny.safetensors"
    (root / "vae/wan_2.1_vae_tiny.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"'sd.safetensors' is the VAE of an image model"):
        find_files(root, Variant.I2V)


def test_wrong_kind_is_told_apart(tiny):
    with pytest.raises(ModelError, match="is a model for image to video"):
        find_files(tiny / "diffusers/wan2.1-i2v", Variant.ANIMATE)


def test_kind_that_is_nowhere(tiny, tmp_path):
    shutil.copytree(tiny / "diffusers/wan2.1-i2v", tmp_path / "mine")
    with pytest.raises(
        MissingFileError, match=r"No model for character animation.*'mine' is for image"
    ):
        find_files(tmp_path, Variant.ANIMATE)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(MissingFileError, match="No Wan model is in") as error:
        find_files(tmp_path)
    assert all(word in error.value.why for word in ("text_encoder/", "models_t5", "clip_vision/"))
    with pytest.raises(MissingFileError, match="is not there"):
        find_files(tmp_path / "none")


@pytest.mark.parametrize(
    ("source", "removed"),
    [
        ("diffusers/wan2.1-i2v", ("vae", "tokenizer", "text_encoder", "image_encoder")),
        (
            "official",
            ("Wan2.1_VAE.pth", "google", "models_t5_umt5-tiny.pth", "models_clip_tiny.pth"),
        ),
        ("comfyui", ("vae", "clip_vision")),
    ],
)
def test_all_missing_parts_are_reported_at_once(tiny, tmp_path, source, removed):
    root = tmp_path / "model"
    shutil.copytree(tiny / source, root)
    for name in removed:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(MissingFileError) as error:
        find_files(root, Variant.I2V)
    assert f"{len(removed)} parts" in error.value.what
    assert "vae:" in error.value.what
    assert "image_encoder:" in error.value.what


def test_missing_official_transformer_is_named(tiny, tmp_path):
    root = tmp_path / "model"
    shutil.copytree(tiny / "official", root)
    (root / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(MissingFileError, match=r"transformer: looked for .*index\.json"):
        find_files(root)


def test_parts_not_given_are_reported_at_once(tiny):
    files = ModelFiles(tiny / "diffusers/wan2.1-i2v/transformer")
    with pytest.raises(MissingFileError) as error:
        load_model(files, CPU)
    assert all(part in error.value.what for part in ("vae", "text encoder", "image encoder"))


def test_damaged_part_is_an_error_before_anything_is_read(tiny, tmp_path):
    root = tmp_path / "model"
    shutil.copytree(tiny / "diffusers/wan2.1-i2v", root)
    files = find_files(root)
    cut(root / "text_encoder/model.safetensors")
    with pytest.raises(ModelError, match="cut short"):
        load_model(files, CPU)


def test_lost_tensor_is_an_error_before_anything_is_read(tiny, tmp_path):
    root = tmp_path / "model"
    shutil.copytree(tiny / "diffusers/wan2.1-i2v", root)
    file = root / "image_encoder/model.safetensors"
    tensors = load_file(file)
    del tensors["vision_model.pre_layrnorm.weight"]
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"1 missing \(first 'pre_layrnorm.weight'\)"):
        load_model(find_files(root), CPU)


def test_parts_of_different_models_are_told_apart(tiny, tmp_path):
    files = find_files(tiny / "diffusers", Variant.I2V)
    narrow = tmp_path / "clip.safetensors"
    tensors = load_file(tiny / "comfyui/clip_vision/clip_vision_tiny.safetensors")

    def halve(tensor):
        for axis, size in enumerate(tensor.shape):
            if size == 32:
                tensor = tensor.narrow(axis, 0, 16)
        return tensor.clone()

    save_file({n: halve(t) for n, t in tensors.items()}, narrow)
    with pytest.raises(ModelError, match=r"gives 16 image features, but .* takes 32"):
        load_model(replace(files, image_encoder=narrow), CPU)


def test_swapped_parts_are_named(tiny):
    files = find_files(tiny / "comfyui", Variant.I2V)
    with pytest.raises(ModelError, match="is a UMT5 text encoder, not a Wan VAE"):
        load_model(replace(files, vae=files.text_encoder), CPU)


def test_text_encoder_without_tokenizer(tiny, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(tiny / "comfyui", root)
    file = root / "text_encoders/umt5_tiny.safetensors"
    save_file({n: t for n, t in load_file(file).items() if n != "spiece_model"}, file)
    with pytest.raises(MissingFileError, match="tokenizer: neither in"):
        find_files(root, Variant.I2V)
    shutil.copytree(tiny / "official/google/umt5-xxl", root / "text_encoders/tokenizer")
    assert find_files(root, Variant.I2V).tokenizer.name == "spiece.model"


def test_models_of_the_same_files_share_their_parts(tiny):
    placement = DevicePlacement("cpu")
    first = load_model(find_files(tiny / "comfyui", Variant.I2V), placement)
    second = load_model(find_files(tiny / "comfyui", Variant.FLF2V), placement)
    assert first.vae is second.vae
    assert first.text_encoder is second.text_encoder
    assert first.transformer is not second.transformer
    half = load_model(find_files(tiny / "comfyui", Variant.I2V), placement, torch.bfloat16)
    assert half.vae is first.vae
    assert half.transformer is not first.transformer
    elsewhere = load_model(find_files(tiny / "comfyui", Variant.I2V), DevicePlacement("cpu"))
    assert elsewhere.vae is not first.vae


def test_changed_file_is_another_part(tiny, tmp_path):
    root = tmp_path / "model"
    shutil.copytree(tiny / "diffusers/wan2.1-i2v", root)
    first = load_model(find_files(root), CPU)
    file = root / "vae/diffusion_pytorch_model.safetensors"
    save_file(load_file(file), file, {"format": "pt", "edited": "yes"})
    assert load_model(find_files(root), CPU).vae is not first.vae


def test_unused_parts_are_let_go(tiny):
    from wan_local.wan.load import model as module

    placement = DevicePlacement("cpu")
    kept = load_model(find_files(tiny / "comfyui", Variant.I2V), placement)
    keys = [k for k in module._parts if k[-1] == id(placement)]
    assert len(keys) == 4
    del kept
    gc.collect()
    assert not any(k in module._parts for k in keys)


def test_types_by_device(tiny):
    assert default_dtype(torch.device("cpu")) is torch.float32
    assert default_dtype(torch.device("mps")) is torch.float16
    model = load_model(find_files(tiny / "comfyui", Variant.I2V), CPU, torch.bfloat16)
    with (
        model.transformer.on_device() as transformer,
        model.vae.on_device() as vae,
        model.text_encoder.on_device() as text,
        model.image_encoder.on_device() as image,
    ):
        assert transformer.blocks[0].ffn.net[2].weight.dtype is torch.bfloat16
        assert {p.dtype for p in vae.parameters()} == {torch.float32}
        assert {p.dtype for p in text.parameters()} == {torch.bfloat16}
        assert {p.dtype for p in image.parameters()} == {torch.bfloat16}


def test_import_loads_no_big_library():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import wan.load.model, wan.tiny;"
        "big = {'diffusers', 'transformers', 'tokenizers', 'sentencepiece', 'safetensors'};"
        "sys.exit(', '.join(big & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_one_shard_means_its_model(tiny):
    shard = next((tiny / "official").glob("*-00001-of-*"))
    assert find_files(shard).transformer.name.endswith(".index.json")


def test_inner_file_of_a_folder_means_its_model(tiny):
    inner = tiny / "diffusers/wan2.1-i2v/transformer/diffusion_pytorch_model.safetensors"
    assert find_files(inner) == find_files(tiny / "diffusers/wan2.1-i2v")


def test_replaced_text_encoder_brings_its_tokenizer(tiny):
    files = find_files(tiny / "diffusers/wan2.1-i2v")
    other = tiny / "comfyui/text_encoders/umt5_tiny.safetensors"
    changed = files.replacing(text_encoder=other)
    assert (changed.text_encoder, changed.tokenizer) == (other, other)
    assert files.replacing(vae=tiny / "official/Wan2.1_VAE.pth").tokenizer == files.tokenizer


def test_candidates_given_one_by_one_are_sorted_by_content(tiny):
    everything = sorted((tiny / "comfyui").rglob("*.safetensors"))
    parts = ("transformer", "vae", "text_encoder", "image_encoder")
    files = gather_files(dict.fromkeys(parts, everything), Variant.ANIMATE)
    assert files == find_files(tiny / "comfyui", Variant.ANIMATE)


@pytest.mark.parametrize("layout", ["diffusers", "comfyui"])
def test_first_of_several_wanted_kinds_is_preferred(tiny, layout):
    for wanted in ((Variant.I2V, Variant.FLF2V), (Variant.FLF2V, Variant.I2V)):
        files = find_files(tiny / layout, wanted)
        assert load_model(files, CPU).variant is wanted[0]


def test_second_wanted_kind_will_do(tiny):
    flf2v = tiny / "diffusers/wan2.1-flf2v"
    files = find_files(flf2v, (Variant.I2V, Variant.FLF2V))
    assert files == find_files(flf2v)
    with pytest.raises(ModelError, match="for image to video or character animation is needed"):
        find_files(flf2v, (Variant.I2V, Variant.ANIMATE))
