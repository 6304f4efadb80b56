import json
import os

import pytest
import torch
from wan_local.wan.errors import OutputError
from wan_local.wan.load.model import find_files, load_model
from wan_local.wan.payloads import Variant
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.tiny import TINY_VERSION, build_tiny, ensure_tiny

CPU = DevicePlacement("cpu")


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_builds_are_byte_identical(tiny, tmp_path):
    build_tiny(tmp_path / "again")
    first, second = contents(tiny), contents(tmp_path / "again")
    assert set(first) == set(second)
    assert [str(p) for p in first if first[p] != second[p]] == []


def test_set_is_small(tiny):
    assert sum(len(content) for content in contents(tiny).values()) < 12_000_000


def test_current_set_is_kept_and_older_one_rebuilt(tmp_path):
    folder = ensure_tiny(tmp_path / "tiny")
    stamp, model = folder / "tiny.json", folder / "comfyui/vae/wan_2.1_vae_tiny.safetensors"
    os.utime(model, (1, 1))
    ensure_tiny(folder)
    assert model.stat().st_mtime == 1
    stamp.write_text(json.dumps({"version": TINY_VERSION - 1}))
    ensure_tiny(folder)
    assert model.stat().st_mtime > 1
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match="holds no tiny models"):
        ensure_tiny(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_failed_build_leaves_nothing(tmp_path, monkeypatch):
    from wan_local.wan.tiny import build

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_write_official", fail)
    with pytest.raises(KeyboardInterrupt):
        ensure_tiny(tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


@torch.no_grad()
def test_vae_makes_pictures_of_ordinary_contrast(tiny):
    model = load_model(find_files(tiny / "diffusers/wan2.1-i2v"), CPU)
    with model.vae.on_device() as vae:
        mean = torch.tensor(vae.config.latents_mean).view(1, 16, 1, 1, 1)
        std = torch.tensor(vae.config.latents_std).view(1, 16, 1, 1, 1)
        frames = vae.decode(randn(1, 16, 3, 8, 8) * std + mean).sample
        latents = (vae.encode(randn(1, 3, 9, 64, 64)).latent_dist.mode() - mean) / std
    assert 0.15 < frames.std() < 0.4
    assert frames.mean().abs() < 0.3
    assert (frames.abs() > 0.99).float().mean() < 0.001
    assert frames.std((0, 1, 3, 4)).min() > 0.1  # no frame is flat
    assert 0.4 < latents.std() < 1.6


@pytest.mark.parametrize("variant", Variant)
@torch.no_grad()
def test_transformer_reacts_to_every_input(tiny, variant):
    model = load_model(find_files(tiny / "diffusers", variant), CPU)
    images = 2 if variant is Variant.FLF2V else 1

    def text(words, seed):
        embeds = torch.zeros(1, 512, 32)
        embeds[:, :words] = randn(1, words, 32, seed=seed)
        return embeds

    given = {
        "hidden_states": randn(1, 36, 3, 8, 8),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": text(12, 1),
        "encoder_hidden_states_image": randn(images, 5, 32, seed=2),
    }
    other = {
        "hidden_states": randn(1, 36, 3, 8, 8, seed=9),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": text(9, 8),
        "encoder_hidden_states_image": randn(images, 5, 32, seed=7),
    }
    if variant is Variant.ANIMATE:
        given["pose_hidden_states"] = randn(1, 16, 2, 8, 8, seed=3)
        given["face_pixel_values"] = randn(1, 3, 5, 64, 64, seed=4).clamp(-1, 1)
        other["pose_hidden_states"] = torch.zeros(1, 16, 2, 8, 8)
        other["face_pixel_values"] = -torch.ones(1, 3, 5, 64, 64)
    with model.transformer.on_device() as transformer:
        out = transformer(**given, return_dict=False)[0]
        assert 0.7 < out.std() < 1.5
        for name, value in other.items():
            change = transformer(**given | {name: value}, return_dict=False)[0] - out
            assert change.std() > 0.15, name
        near = transformer(**given | {"timestep": torch.tensor([520.0])}, return_dict=False)[0]
    assert (near - out).std() < 0.25  # neighbouring steps are alike


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("wan2.1-i2v", "WanImageToVideoPipeline"),
        ("wan2.1-flf2v", "WanImageToVideoPipeline"),
        ("wan2.2-animate", "WanAnimatePipeline"),
    ],
)
def test_folders_load_with_the_stock_pipelines(tiny, folder, name):
    import diffusers

    pipe = getattr(diffusers, name).from_pretrained(
        tiny / "diffusers" / folder, local_files_only=True
    )
    embeds, _ = pipe.encode_prompt(
        "a cat 猫", do_classifier_free_guidance=False, max_sequence_length=512
    )
    assert embeds.shape == (1, 512, 32)
    assert pipe.scheduler.config.flow_shift == 5.0
    assert pipe.image_processor.size["shortest_edge"] == 28
