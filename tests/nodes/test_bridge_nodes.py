"""Models that ComfyUI's own loaders have loaded, on the stand-in and on every real ComfyUI."""

from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shipped_graphs import random_weights
from wan_local.nodes.bridge import WanLocalTextFromConditioning, WanLocalUseVae
from wan_local.nodes.encode import WanLocalImageToVideo
from wan_local.wan.encode.given import given_features
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import InputError
from wan_local.wan.load.header import read_header
from wan_local.wan.load.keys import to_original, vae_rows
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent
from wan_local.wan.tiny import tiny_files

ROOT = Path(__file__).resolve().parents[2]


def frames(path):
    with av.open(str(path)) as video:
        return np.stack([f.to_ndarray(format="rgb24") for f in video.decode(video=0)])


def run(node, **inputs):
    return node.execute(**inputs).args[0]


def test_conditioning_becomes_text(stand_in, i2v):
    ours = encode_prompts(i2v, "a cat", "a dog", Silent())
    positive, negative = (
        [[t[:, :4], {"pooled_output": None}]] for t in (ours.positive, ours.negative)
    )
    text = run(WanLocalTextFromConditioning, model=i2v, positive=positive, negative=negative)
    assert torch.equal(text.positive[:, :4], ours.positive[:, :4])
    assert torch.equal(text.negative[:, :4], ours.negative[:, :4])
    alone = run(WanLocalTextFromConditioning, model=i2v, positive=positive)
    assert alone.negative is None


def test_what_the_mask_of_a_text_leaves_out_is_zero(stand_in, i2v):
    features = torch.rand(1, 6, i2v.config["text_dim"]) + 1
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    encoded = [[features, {"attention_mask": mask}]]
    text = run(WanLocalTextFromConditioning, model=i2v, positive=encoded)
    assert torch.equal(text.positive[:, :4], features[:, :4]) and text.positive[:, 4:].eq(0).all()


@pytest.mark.parametrize("shape", [(2, 6, 0), (1, 513, 0), (1, 6, 1), (6, 0)])
def test_a_text_of_another_encoder_is_refused(stand_in, i2v, shape):
    features = torch.rand(*shape[:-1], i2v.config["text_dim"] + shape[-1])
    with pytest.raises(InputError, match=r"encoded text has the shape \["):
        run(WanLocalTextFromConditioning, model=i2v, positive=[[features, {}]])


@pytest.mark.parametrize(("pictures", "more"), [(2, 0), (1, 1)])
def test_a_picture_of_another_encoder_is_refused(i2v, pictures, more):
    features = torch.rand(pictures, 5, i2v.config["image_dim"] + more)
    with pytest.raises(InputError, match=r"(?s)shape \[.*reads 1 picture of"):
        given_features(i2v, features, 1)


def test_a_vae_object_of_the_host_is_used(stand_in, i2v):
    with i2v.vae.on_device() as vae:
        host_vae = SimpleNamespace(first_stage_model=vae)
        borrowed = run(WanLocalUseVae, model=i2v, vae=host_vae)
    assert borrowed.vae is not i2v.vae


def test_clip_vision_output_is_used(stand_in, i2v):
    tokens = torch.rand(1, 5, i2v.config["image_dim"])
    given = SimpleNamespace(penultimate_hidden_states=tokens, last_hidden_state=tokens + 1)
    sizes = {"width": 64, "height": 64, "num_frames": 5, "size_mode": "area, keep aspect"}
    sizes |= {"vae_tile_size": 0, "add_frames_for_end_image": "auto"}
    picture = torch.rand(1, 32, 32, 3)
    condition = run(
        WanLocalImageToVideo, model=i2v, image=picture, **sizes, clip_vision_output=given
    )
    assert torch.equal(condition.image_embeds, tokens)


@pytest.fixture
def vae_file(host, tiny):
    """A file with the authors' names in models/vae, as people have it; gone after the test."""
    (source,) = read_header(tiny_files(tiny, Variant.I2V).vae).files
    tensors = to_original(load_file(source), vae_rows())
    file = host.models_dir / "vae" / "bridge_vae.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    yield file
    file.unlink()


@pytest.mark.comfy
def test_comfyuis_own_vae_makes_the_same_video(host, vae_file):
    """Loaded by ComfyUI's Load VAE."""
    info = host.object_info()
    if "VAELoader" not in info:
        pytest.skip("this host has no Load VAE")
    prompt = random_weights("wan_i2v")
    by_class = {n["class_type"]: n["inputs"] for n in prompt.values()}
    by_class["LoadImage"]["image"] = host.put_input(ROOT / "assets" / "sample.png")
    by_class["WanLocalImageToVideo"].update(width=64, height=64, num_frames=5)
    by_class["WanLocalSampler"]["num_inference_steps"] = 2
    by_class["WanLocalSaveVideo"]["format"] = "mkv FFV1 lossless"
    own = frames(host.run(prompt).outputs[0])
    loader = next(k for k, n in prompt.items() if n["class_type"] == "WanLocalModelLoader")
    prompt["90"] = {"class_type": "VAELoader", "inputs": {"vae_name": vae_file.name}}
    bridge = {"model": [loader, 0], "vae": ["90", 0]}
    prompt["91"] = {"class_type": "WanLocalUseVae", "inputs": bridge}
    for key in ("WanLocalImageToVideo", "WanLocalDecode"):
        by_class[key]["model"] = ["91", 0]
    made = host.run(prompt)
    if made.error and "size mismatch" in made.error:
        pytest.skip("this host's Load VAE builds the VAE of the real model's size only")
    assert made.status == "success", made.error
    assert np.array_equal(frames(made.outputs[0]), own)
