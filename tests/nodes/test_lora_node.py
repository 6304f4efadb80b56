"""Wan LoRA in graphs: on the stand-in and on every real ComfyUI that is found."""

import copy
import json
import logging
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch
from host import STANDIN
from host.hosts import find_checkouts
from safetensors.torch import save_file
from shipped_graphs import random_weights

ROOT = Path(__file__).resolve().parents[2]
# See test_graphs.py: x264 does not always write the same file from the same frames.
SAME = 1.0
HOSTS = [
    pytest.param(STANDIN, id="stand-in"),
    *(pytest.param(p, id=p.name, marks=pytest.mark.comfy) for p in find_checkouts()),
]


def node_id(prompt, class_type):
    return next(i for i, node in prompt.items() if node["class_type"] == class_type)


def inputs(prompt, class_type):
    return prompt[node_id(prompt, class_type)]["inputs"]


def add_lora(prompt, name, strength, key="lora"):
    """A copy with a LoRA between the model and all that used it."""
    changed = copy.deepcopy(prompt)
    last = next(
        (k for k in ("lora2", "lora") if k in prompt), node_id(prompt, "WanLocalModelLoader")
    )
    for node in changed.values():
        for input_name, value in node["inputs"].items():
            if value == [last, 0]:
                node["inputs"][input_name] = [key, 0]
    values = {"model": [last, 0], "lora": name, "strength": strength}
    changed[key] = {"class_type": "WanLocalLoRA", "inputs": values}
    return changed


def frames_of(result):
    assert result.status == "success", result.error
    with av.open(str(result.outputs[0])) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def difference(first, second):
    """Mean absolute difference of two videos, in levels of 255."""
    pairs = zip(first, second, strict=True)
    return sum(abs(a.astype(float) - b).mean() for a, b in pairs) / len(first)


@pytest.fixture
def prompt(host):
    """The tiny graph, small."""
    prompt = random_weights("wan_i2v")
    inputs(prompt, "LoadImage")["image"] = host.put_input(ROOT / "assets" / "sample.png")
    inputs(prompt, "WanLocalImageToVideo").update(width=96, height=64, num_frames=5)
    inputs(prompt, "WanLocalSampler").update(num_inference_steps=2, seed=201)
    return prompt


@pytest.fixture
def lora(host):
    """A LoRA of the tiny model with every kind of change, in the folder of this host."""
    generator = torch.Generator().manual_seed(3)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    tensors = {"diffusion_model.blocks.7.self_attn.q.diff": randn(48, 48)}
    for block in range(2):
        for layer in ("self_attn.q", "self_attn.v", "cross_attn.o"):
            name = f"diffusion_model.blocks.{block}.{layer}"
            tensors[f"{name}.lora_down.weight"] = randn(2, 48)
            tensors[f"{name}.lora_up.weight"] = randn(48, 2)
            tensors[f"{name}.alpha"] = torch.tensor(2.0)
        tensors[f"diffusion_model.blocks.{block}.modulation.diff"] = randn(1, 6, 48)
        tensors[f"diffusion_model.blocks.{block}.norm3.diff_b"] = randn(48)
    folder = host.models_dir / "loras" / "sub"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "tiny.safetensors")
    return "sub/tiny.safetensors"


def test_a30_in_a_graph_zero_is_off_one_is_on_and_removing_it_restores(host, prompt, lora):
    plain = frames_of(host.run(prompt))
    off = frames_of(host.run(add_lora(prompt, lora, 0.0)))
    on = frames_of(host.run(add_lora(prompt, lora, 1.0)))
    assert difference(plain, off) < SAME < difference(plain, on)
    # A host keeps the results of the last graph only, so this samples again, on the weights that
    # had the LoRA a moment ago.
    again = host.run(prompt)
    assert node_id(prompt, "WanLocalSampler") not in again.cached
    assert difference(plain, frames_of(again)) < SAME


def test_two_loras_in_a_row_with_opposite_strengths_cancel(host, prompt, lora):
    inputs(prompt, "WanLocalSampler")["seed"] = 202
    plain = frames_of(host.run(prompt))
    twice = add_lora(add_lora(prompt, lora, 0.5), lora, -0.5, "lora2")
    assert difference(plain, frames_of(host.run(twice))) < SAME


def test_the_count_is_logged(host, prompt, lora, caplog):
    caplog.set_level(logging.INFO, "wan_local")
    inputs(prompt, "WanLocalSampler")["seed"] = 203
    assert host.run(add_lora(prompt, lora, 0.3)).status == "success"
    assert "tiny.safetensors: 22 of 23 tensors applied, multiplier 0.3" in host.log()
    assert "1 tensors have no use here: diffusion_model.blocks.7" in host.log()


def test_a_name_that_was_saved_on_windows_is_found(host, prompt, lora):
    inputs(prompt, "WanLocalSampler")["seed"] = 204
    assert host.run(add_lora(prompt, lora.replace("/", "\\"), 0.3)).status == "success"


def test_a_changed_file_is_read_again(host, prompt, lora):
    inputs(prompt, "WanLocalSampler")["seed"] = 205
    graph = add_lora(prompt, lora, 1.0)
    first = host.run(graph)
    path = host.models_dir / "loras" / lora
    save_file({"blocks.0.self_attn.q.diff": torch.full((48, 48), 0.5)}, path)
    second = host.run(graph)
    assert "lora" not in second.cached
    assert difference(frames_of(first), frames_of(second)) > SAME


def test_wrong_files_are_refused_before_anything_runs(host, prompt, lora, tiny):
    folder = host.models_dir / "loras"
    vae = next((tiny / "comfyui" / "vae").glob("*.safetensors"))
    (folder / "a_vae.safetensors").write_bytes(vae.read_bytes())
    (folder / "half.safetensors").write_bytes((folder / lora).read_bytes()[:-10])
    for name, text in (
        ("a_vae.safetensors", "is a Wan VAE"),
        ("half.safetensors", "cut short"),
        ("gone.safetensors", "not in models/loras"),
    ):
        assert text in json.dumps(host.validate(add_lora(prompt, name, 1.0)))


@pytest.mark.parametrize("strength", [-10.5, 11])
def test_strengths_out_of_range_are_refused(host, prompt, lora, strength):
    assert host.validate(add_lora(prompt, lora, strength))


def test_the_drop_down_lists_files_or_says_where_to_put_one(stand_in, tmp_path):
    import folder_paths

    def options():
        return stand_in.object_info()["WanLocalLoRA"]["input"]["required"]["lora"]

    folder = stand_in.models_dir / "loras"
    for path in list(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file():
            path.unlink()
    assert "models/loras" in json.dumps(options())
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"blocks.0.self_attn.q.diff": torch.zeros(2, 2)}, folder / "x.safetensors")
    (folder / "x.pt").write_bytes(b"")
    folder_paths.use_base_directory(stand_in.base)
    assert "x.safetensors" in json.dumps(options()) and "x.pt" not in json.dumps(options())


def test_linked_inputs_are_left_for_later(stand_in):
    node = stand_in.runner.nodes["WanLocalLoRA"]
    assert node.validate_inputs(None) is True
    assert node.fingerprint_inputs(lora=None, strength=None) == "missing"


@pytest.mark.parametrize("place", HOSTS)
def test_a30_the_host_computes_what_we_do_and_gives_every_bit_back(place, tiny):
    python = place / ".venv" / "bin" / "python"
    script = Path(__file__).with_name("check_lora_on_host.py")
    command = [python if python.exists() else sys.executable, script, place, ROOT, tiny]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
