"""A filled graph gives the frames that the library gives for the same parameters."""

from pathlib import Path

import av
import numpy as np
import pytest
from wan_local.nodes.service.choices import choose
from wan_local.nodes.service.graphs import fill
from wan_local.wan.app import Surroundings, run_animate, run_i2v
from wan_local.wan.load.companions import Companions
from wan_local.wan.miniatures import TINY, Miniature
from wan_local.wan.params import ANIMATE_APP, I2V_APP, validate
from wan_local.wan.progress import Silent
from wan_local.wan.tiny import MINIMUMS, tiny_pose_files, tiny_rife_folder

RANDOM = Miniature(TINY)

ASSETS = Path(__file__).resolve().parents[2] / "assets"
LOSSLESS = "mkv FFV1 lossless"
FILES = ("input_image", "end_frame", "driving_video", "reference_image")


def frames_of(path):
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return np.stack(frames).astype(int), rate


def by_graph(host, app, values):
    """Frames of the app's graph on a host, without loss."""
    given = dict(values)
    for name in FILES:
        if given.get(name):
            given[name] = host.put_input(given[name], f"infsh/{Path(given[name]).name}")
    filled = fill(app, given, choose(app, values, RANDOM), "infsh/same/video")
    (save,) = filled.outputs.values()
    filled.graph[save]["inputs"]["format"] = LOSSLESS
    result = host.run(filled.graph)
    if result.status == "error" and "onnxruntime" in result.error:
        pytest.skip(f"{host.name} has no onnxruntime")
    assert result.status == "success", result.error
    return frames_of(result.outputs[0])


@pytest.fixture
def lora(host, stand_in):
    """The same file where this process and the host look for it."""
    import torch
    from safetensors.torch import save_file

    generator, tensors = torch.Generator().manual_seed(0), {}
    for block in range(2):
        name = f"diffusion_model.blocks.{block}.self_attn.v"
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, 48, generator=generator)
        tensors[f"{name}.lora_up.weight"] = torch.randn(48, 4, generator=generator) * 0.1
    paths = {h.models_dir / "loras" / "service.safetensors" for h in (host, stand_in)}
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
    stand_in.activate()
    yield stand_in.models_dir / "loras"
    for path in paths:
        path.unlink()


@pytest.mark.parametrize(
    "more",
    [
        {"tea_cache": 0},
        {
            "end_frame": str(ASSETS / "sample.png"),
            "lora_file": "service.safetensors",
            "lora_multiplier": 0.7,
            "temporal_upsampling": "rife2",
            "spatial_upsampling": "lanczos1.5",
            "negative_prompt": "blurry",
            "sample_solver": "dpm++",
            "vae_tile_size": 0,
            "cfg_zero_step": 1,
            "fps": 12,
        },
    ],
)
def test_image_to_video(host, lora, i2v, tiny, tmp_path, more):
    given = {
        "prompt": "a red ball rolls",
        "input_image": str(ASSETS / "sample.png"),
        "size": "96x64",
        "num_frames": 9,
        "num_inference_steps": 4,
        "seed": 77,
        **more,
    }
    values = validate(I2V_APP, given)
    shown, rate = by_graph(host, I2V_APP.name, values)
    around = Surroundings(lora_folders=[lora], rife_folders=[tiny_rife_folder(tiny)])
    run_i2v(values, i2v, tmp_path / "library.mkv", Silent(), around)
    wanted, wanted_rate = frames_of(tmp_path / "library.mkv")
    assert shown.shape == wanted.shape and rate == wanted_rate
    # Frames pass between nodes as floats and inside the library with 8 bits: upsampling rounds
    # in another place.
    assert abs(shown - wanted).mean() < 0.5 and abs(shown - wanted).max() <= 6


@pytest.mark.parametrize(
    "more",
    [
        {"retarget_flag": True},
        {"mode": "replacement", "mask_iterations": 1, "mask_w_subdivisions": 4, "refert_num": 5},
    ],
)
def test_animation_and_replacement(host, animate, tiny, tmp_path, more):
    given = {
        "driving_video": str(ASSETS / "puppet.mp4"),
        "reference_image": str(ASSETS / "character.png"),
        "resolution_width": 96,
        "resolution_height": 64,
        "sampling_steps": 2,
        "clip_len": 9,
        "fps": 4,
        "seed": 78,
        **more,
    }
    values = validate(ANIMATE_APP.widened(MINIMUMS), given)
    shown, rate = by_graph(host, ANIMATE_APP.name, values)
    around = Surroundings(companions=Companions(*tiny_pose_files(tiny)))
    run_animate(values, animate, tmp_path / "library.mkv", Silent(), around)
    wanted, wanted_rate = frames_of(tmp_path / "library.mkv")
    assert shown.shape == wanted.shape and rate == wanted_rate
    assert abs(shown - wanted).mean() < 0.5 and abs(shown - wanted).max() <= 6
