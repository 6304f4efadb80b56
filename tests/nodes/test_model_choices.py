"""What Wan Model Loader offers: files that can serve, from every folder; and what it says of others."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from shipped_graphs import random_weights

ROOT = Path(__file__).resolve().parents[2]
KIND = "WanLocalModelLoader"


@pytest.fixture
def folders(host, tiny):
    """The miniatures as files among other files, in the folders of this host; removed again."""
    made = []

    def put(source, folder, name):
        target = host.models_dir / folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        # Hosts notice that a folder has changed by its time, which has a coarse clock.
        os.utime(target.parent, (target.stat().st_mtime, target.parent.stat().st_mtime + 10))
        made.append(target)
        return target

    yield put
    for path in made:
        path.unlink(missing_ok=True)
        os.utime(path.parent, (path.parent.stat().st_atime, path.parent.stat().st_mtime + 10))


def options(host, widget):
    info = host.object_info()[KIND]["input"]
    found = {**info["required"], **info.get("optional", {})}[widget]
    return found[0] if isinstance(found[0], list) else found[1]["options"]


def source(tiny, folder, pattern):
    return next((tiny / "comfyui" / folder).glob(pattern))


def gguf(tiny, folder):
    from formats import gguf_file
    from wan_local.wan.load.fill import read_tensors  # noqa: F401 - the pack is there

    return gguf_file(source(tiny, "diffusion_models", "*i2v*"), folder / "wan.gguf", "Q8_0")


def test_only_files_that_can_serve_are_offered(host, folders, tiny, tmp_path):
    transformer = source(tiny, "diffusion_models", "*i2v*")
    folders(transformer, "diffusion_models", "wan_i2v.safetensors")
    folders(transformer, "unet", "wan_in_unet.safetensors")
    folders(transformer, "diffusion_models", "deep/er/wan_deep.safetensors")
    folders(source(tiny, "vae", "*"), "vae", "wan_vae.safetensors")
    folders(source(tiny, "vae", "*"), "diffusion_models", "a_vae.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(3)}, other)
    folders(other, "diffusion_models", "flux.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(transformer.read_bytes()[:-50])
    folders(damaged, "diffusion_models", "damaged.safetensors")
    found = options(host, "model")
    for name in ("wan_i2v", "wan_in_unet", "deep/er/wan_deep", "damaged"):
        assert f"{name}.safetensors" in found
    assert not {"a_vae.safetensors", "flux.safetensors"} & set(found)
    assert not any("none found" in name for name in found)
    assert "wan_vae.safetensors" in options(host, "vae")


def test_empty_folders_say_what_to_put_there(stand_in, monkeypatch):
    from wan_local.nodes import models

    monkeypatch.setattr(models, "_names", lambda part: [])
    monkeypatch.setattr(models.host, "model_folders", dict)
    for widget, text in {
        "model": "wan2.1_i2v_480p_14B_fp16.safetensors into models/diffusion_models",
        "text_encoder": "umt5_xxl_fp8_e4m3fn_scaled.safetensors into models/text_encoders",
        "vae": "wan_2.1_vae.safetensors into models/vae",
        "image_encoder": "clip_vision_h.safetensors into models/clip_vision",
    }.items():
        assert f"(none found: put {text})" in models.listed(widget)
    assert models.default_model().startswith("mini")
    for name in models.listed("model"):
        if name.startswith("("):
            with pytest.raises(models.MissingFileError, match="none found: put"):
                models.check_model(name)


@pytest.fixture
def prompt(host):
    prompt = random_weights("wan_i2v")
    nodes = {node["class_type"]: node["inputs"] for node in prompt.values()}
    nodes["LoadImage"]["image"] = host.put_input(ROOT / "assets" / "sample.png")
    nodes["WanLocalImageToVideo"].update(width=96, height=64, num_frames=5)
    nodes["WanLocalSampler"].update(num_inference_steps=1, seed=901)
    return prompt


def loader(prompt):
    return next(n["inputs"] for n in prompt.values() if n["class_type"] == KIND)


PARTS = {
    "text_encoder": ("text_encoders", "umt5*"),
    "vae": ("vae", "*"),
    "image_encoder": ("clip_vision", "*"),
}


def test_a_gguf_file_is_offered_and_makes_a_video(host, folders, tiny, tmp_path, prompt):
    pytest.importorskip("gguf")
    if not has_gguf(host):
        pytest.skip("this host's Python has no package gguf")
    folders(gguf(tiny, tmp_path), "diffusion_models", "quant/wan.gguf")
    assert "quant/wan.gguf" in options(host, "model")
    values = {"model": "quant\\wan.gguf"}  # as it was saved on Windows
    for part, (folder, pattern) in PARTS.items():
        folders(source(tiny, folder, pattern), folder, f"choice_{part}.safetensors")
        values[part] = f"choice_{part}.safetensors"
    if host.name == "ComfyUI-0.33":
        values["model"] = "quant/wan.gguf"  # this host compares choices with its list itself
    loader(prompt).update(values)
    result = host.run(prompt)
    assert result.status == "success", result.error


def has_gguf(host):
    import subprocess

    checkout = getattr(host, "checkout", None)
    python = checkout and checkout / ".venv" / "bin" / "python"
    if not python or not python.exists():
        return True
    return subprocess.run([python, "-c", "import gguf"], check=False).returncode == 0


def test_a_choice_of_nothing_is_refused_with_its_own_words(host, prompt):
    text = "(none found: put wan2.1_i2v_480p_14B_fp16.safetensors into models/diffusion_models)"
    loader(prompt)["model"] = text
    assert text in json.dumps(host.validate(prompt))


def test_with_download_what_is_missing_is_fetched(stand_in, tiny, monkeypatch):
    """By every part's own name and place; without it nothing is asked for."""
    from hub import Hub
    from wan_local.nodes import models
    from wan_local.wan.errors import MissingFileError
    from wan_local.wan.load.catalog import CLIP, I2V_480P, UMT5_FP8, VAE
    from wan_local.wan.load.download import download

    hub, made = Hub(), []
    stand_in.activate()
    sources = {
        I2V_480P: source(tiny, "diffusion_models", "*i2v*"),
        UMT5_FP8: source(tiny, "text_encoders", "umt5*"),
        VAE: source(tiny, "vae", "*"),
        CLIP: source(tiny, "clip_vision", "*"),
    }
    for file, path in sources.items():
        hub.files[file.repository, file.path] = path.read_bytes()
        made.append(stand_in.models_dir / file.folder / file.name)
    monkeypatch.setattr(models, "download", partial(download, endpoint=hub.url))
    prompt = random_weights("wan_i2v")
    nodes = {node["class_type"]: node["inputs"] for node in prompt.values()}
    nodes["LoadImage"]["image"] = stand_in.put_input(ROOT / "assets" / "sample.png")
    nodes["WanLocalImageToVideo"].update(width=96, height=64, num_frames=5)
    nodes["WanLocalSampler"].update(num_inference_steps=1, seed=902)
    loader(prompt)["model"] = I2V_480P.name
    # Other tests may have left files that serve at "auto"; those parts are not fetched.
    parts = ("text_encoder", "vae", "image_encoder")
    lacking = [any("none found" in name for name in models.listed(part)) for part in parts]
    try:
        with pytest.raises(MissingFileError, match="switch download on"):
            models.find_model_files(I2V_480P.name, "auto", "auto", "auto")
        assert stand_in.validate(prompt) and hub.asked == []
        loader(prompt)["download"] = True
        result = stand_in.run(prompt)
        assert result.status == "success", result.error
        assert [path.is_file() for path in made] == [True, *lacking]
    finally:
        hub.close()
        for path in made:
            path.unlink(missing_ok=True)
