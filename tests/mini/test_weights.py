"""The same video from the same weights, however they are written; and another one with a LoRA."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from formats import gguf_file, plain_fp8, scaled_fp8, write
from mini_runs import CPU, JUMP, SILENT, judge, model, moving_so, psnr, render, run, scenes, wanted
from safetensors.torch import load_file
from wan_local.wan.load.config import METADATA_KEY
from wan_local.wan.load.files import find_files
from wan_local.wan.load.keys import to_original, transformer_rows, vae_rows
from wan_local.wan.load.lora.apply import apply_lora
from wan_local.wan.load.model import load_model
from wan_local.wan.miniatures import MINI, MINI_FOLDER, Miniature
from wan_local.wan.payloads import Variant

SOME = scenes(2, 600)
LORA = MINI_FOLDER / "loras" / "jumps.safetensors"
HEADS = {METADATA_KEY: json.dumps({"num_attention_heads": 4})}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def expected():
    return [run(scene) for scene in SOME]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The transformer with the authors' names, in one file."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("original") / "mini.safetensors"
    tensors = to_original(load_file(MINI_FOLDER / "i2v/transformer" / WEIGHTS), transformer_rows())
    save_file({n: t.float().contiguous() for n, t in tensors.items()}, path, HEADS)
    return path


def opened(**parts):
    return load_model(Miniature(MINI).files(Variant.I2V).replacing(**parts), CPU)


def distance(weights, expected):
    found = [run(scene, weights=weights) for scene in SOME]
    return np.mean([psnr(f, e) for f, e in zip(found, expected, strict=True)])


def test_original_names_give_the_same_video(original, expected):
    assert distance(opened(transformer=original), expected) > 60  # rounding to 8 bits at most


def test_the_autoencoder_in_the_original_layout(tmp_path, expected):
    tensors = to_original(load_file(MINI_FOLDER / "i2v/vae" / WEIGHTS), vae_rows())
    path = write(tmp_path / "vae.safetensors", tensors)
    assert distance(opened(vae=path), expected) > 60


@pytest.mark.parametrize(("kind", "least"), [("plain", 26), ("scaled", 26), ("Q8_0", 34)])
def test_quantised_weights_give_nearly_the_same_video(original, expected, tmp_path, kind, least):
    if kind == "plain":
        path = plain_fp8(original, tmp_path / "fp8.safetensors", torch.float8_e4m3fn)
    elif kind == "scaled":
        path = scaled_fp8(
            original, tmp_path / "fp8.safetensors", torch.float8_e4m3fn, "scale_weight"
        )
    else:
        path = gguf_file(original, tmp_path / "mini.gguf", kind)
    weights = opened(transformer=path)
    found = [run(scene, weights=weights) for scene in SOME]
    assert all(judge(f, s)[0] == wanted(s)[0] for f, s in zip(found, SOME, strict=True))
    assert np.mean([psnr(f, e) for f, e in zip(found, expected, strict=True)]) > least


def test_a_lora_teaches_a_motion_by_its_strength():
    jumping = [moving_so(scene, JUMP, "fast") for scene in SOME]

    def to_truth(strength):
        weights = apply_lora(model(), LORA, strength, SILENT)
        return np.mean([psnr(run(s, weights=weights), render(s)) for s in jumping])

    off, half, on = (to_truth(strength) for strength in (0.0, 0.5, 1.0))
    assert off < half < on
    assert on > off + 2 and on > 23


def test_stock_diffusers_makes_the_same_video():
    """The folder is what it says: its own library reads it."""
    from diffusers import WanImageToVideoPipeline
    from PIL import Image

    pipeline = WanImageToVideoPipeline.from_pretrained(
        MINI_FOLDER / "i2v", torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    scene = SOME[0]
    made = pipeline(
        Image.fromarray(render(scene)[0]),
        scene.caption,
        height=scene.side,
        width=scene.side,
        num_frames=scene.frames,
        num_inference_steps=12,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).frames[0]
    assert judge(made * 255, scene)[0] == wanted(scene)[0]


def test_the_folder_is_small_and_complete():
    size = {
        part.name: sum(f.stat().st_size for f in part.rglob("*") if f.is_file())
        for part in (MINI_FOLDER / "i2v", MINI_FOLDER / "animate", MINI_FOLDER)
    }
    assert size["i2v"] <= 8e6 and size["wan-mini"] <= 20e6
    for folder in ("i2v", "animate"):
        find_files(MINI_FOLDER / folder)
        for file in (MINI_FOLDER / folder).rglob("*.safetensors"):
            assert {t.dtype for t in load_file(file).values()} == {torch.float16}
        assert "license: mit" in (MINI_FOLDER / folder / "README.md").read_text("utf-8")
