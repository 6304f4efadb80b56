"""Filling the shipped graphs: every parameter of both apps has a place in them."""

import copy

import pytest
from wan_local.nodes.service.choices import choose
from wan_local.nodes.service.graphs import fill
from wan_local.wan.miniatures import TINY, Miniature
from wan_local.wan.params import ANIMATE_APP, APPS, I2V_APP, validate

RANDOM = Miniature(TINY)

I2V = {"prompt": "a cat", "input_image": "infsh/a.png", "seed": 1}
ANIMATE = {"driving_video": "infsh/d.mp4", "reference_image": "infsh/r.png", "seed": 1}
GIVEN = {I2V_APP.name: I2V, ANIMATE_APP.name: ANIMATE}
# Another value of each parameter, and what else must be given for it to mean something.
OTHERS = {
    "prompt": ("a dog", {}),
    "input_image": ("infsh/b.png", {}),
    "end_frame": ("infsh/e.png", {}),
    "size": ("1280x720", {}),
    "num_frames": (41, {}),
    "fps": (24, {}),
    "guidance_scale": (1.0, {}),
    "num_inference_steps": (7, {}),
    "seed": (2**64 - 1, {}),
    "negative_prompt": ("blurry", {}),
    "sample_solver": ("dpm++", {}),
    "shift": (3.0, {}),
    "tea_cache": (0, {}),
    "tea_cache_start_step_perc": (20, {}),
    "lora_file": ("style.safetensors", {}),
    "lora_multiplier": (0.5, {"lora_file": "style.safetensors"}),
    "vae_tile_size": (256, {}),
    "enable_RIFLEx": (False, {}),
    "joint_pass": (False, {}),
    "attention": ("sdpa", {}),
    "cfg_star_switch": (False, {}),
    "cfg_zero_step": (-1, {}),
    "add_frames_for_end_image": (False, {"end_frame": "infsh/e.png"}),
    "temporal_upsampling": ("rife4", {}),
    "spatial_upsampling": ("lanczos1.5", {}),
    "clip_len": (81, {}),
    "driving_video": ("infsh/o.mp4", {}),
    "guide_scale": (2.0, {}),
    "input_prompt": ("a man", {}),
    "mask_h_subdivisions": (3, {"mode": "replacement"}),
    "mask_iterations": (5, {"mode": "replacement"}),
    "mask_kernel_size": (9, {"mode": "replacement"}),
    "mask_w_subdivisions": (3, {"mode": "replacement"}),
    "mode": ("replacement", {}),
    "n_prompt": ("blurry", {}),
    "offload_model": (False, {}),
    "reference_image": ("infsh/q.png", {}),
    "refert_num": (5, {}),
    "resolution_height": (1080, {}),
    "resolution_width": (1920, {}),
    "retarget_flag": (True, {}),
    "sampling_steps": (30, {}),
    "use_flux": (True, {"retarget_flag": True}),
}
OTHERS_OF = {ANIMATE_APP.name: {"sample_solver": "unipc"}}
EVERY = [(app, name) for app in APPS for name in APPS[app].names]


@pytest.fixture
def loras(stand_in):
    import torch
    from safetensors.torch import save_file

    path = stand_in.models_dir / "loras" / "style.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "diffusion_model.blocks.0.self_attn.v"
    low = {f"{name}.lora_down.weight": torch.ones(4, 48)}
    save_file({**low, f"{name}.lora_up.weight": torch.ones(48, 4)}, path)
    yield
    path.unlink()


def filled(app, given, prefix="infsh/t/video"):
    values = validate(APPS[app], given)
    files = choose(
        app, {**values, "use_flux": False} if app == ANIMATE_APP.name else values, RANDOM
    )
    return fill(app, values, files, prefix)


@pytest.mark.parametrize(("app", "name"), EVERY)
def test_every_parameter_changes_the_graph(loras, app, name):
    value, more = OTHERS[name]
    value = OTHERS_OF.get(app, {}).get(name, value)
    plain = filled(app, {**GIVEN[app], **more})
    other = filled(app, {**GIVEN[app], **more, name: value})
    assert other.graph != plain.graph
    origins = {p for (node, key), p in other.origins.items() if node in other.graph}
    structural = {"end_frame", "temporal_upsampling", "spatial_upsampling", "tea_cache"}
    assert name in origins or name in structural


@pytest.mark.parametrize("app", APPS)
def test_the_result_is_in_a_folder_of_the_task_and_links_lead_to_nodes(loras, app):
    found = filled(app, {**GIVEN[app], **({"end_frame": "e.png"} if app == I2V_APP.name else {})})
    (output,) = found.outputs.values()
    assert found.graph[output]["inputs"]["filename_prefix"] == "infsh/t/video"
    assert list(found.outputs) == [APPS[app].output]
    for node in found.graph.values():
        for value in node["inputs"].values():
            assert not isinstance(value, list) or value[0] in found.graph
    again = filled(app, GIVEN[app])
    again.graph[output]["inputs"]["filename_prefix"] = "changed"
    assert copy.deepcopy(filled(app, GIVEN[app]).graph) != again.graph


def test_the_host_accepts_what_is_filled(stand_in, loras):
    from PIL import Image

    stand_in.base.joinpath("input").mkdir(exist_ok=True)
    Image.new("RGB", (64, 48)).save(stand_in.base / "input" / "a.png")
    given = {"prompt": "a cat", "input_image": "a.png", "end_frame": "a.png", "seed": 1}
    more = {"lora_file": "style", "temporal_upsampling": "rife2", "spatial_upsampling": "lanczos2"}
    assert stand_in.validate(filled(I2V_APP.name, {**given, **more}).graph) == {}


def test_upsampling_multiplies_the_rate_of_the_file():
    plain = filled(I2V_APP.name, {**I2V, "fps": 20})
    save = plain.outputs["video"]
    assert plain.graph[save]["inputs"]["fps"] == 20.0
    more = filled(I2V_APP.name, {**I2V, "fps": 20, "temporal_upsampling": "rife2"})
    link = more.graph[save]["inputs"]["fps"]
    assert more.graph[link[0]]["inputs"] | {} and link[1] == 1
    assert more.graph[link[0]]["inputs"]["fps"] == 20.0


@pytest.fixture
def no_weights(stand_in, tmp_path):
    """Puts aside what other tests left in the host's folders."""
    folders = ("diffusion_models", "diffusers", "detection", "frame_interpolation", "rife")
    found = [path for name in folders for path in (stand_in.models_dir / name).glob("*")]
    for number, path in enumerate(found):
        path.rename(tmp_path / str(number))
    yield
    for number, path in enumerate(found):
        (tmp_path / str(number)).rename(path)


def test_missing_weights_are_named_with_their_folder(no_weights):
    from wan_local.wan.service.problems import ApiError

    values = validate(I2V_APP, {**I2V, "temporal_upsampling": "rife2"})
    with pytest.raises(ApiError) as refused:
        choose(I2V_APP.name, values, None)
    problem = refused.value.as_json()
    assert problem["status"] == 412
    keys = {entry["key"]: entry["folder"] for entry in problem["errors"]}
    assert keys["wan2.1_i2v_480p_14B_fp16.safetensors"] == "models/diffusion_models"
    assert keys["rife_v4.26.safetensors"] == "models/frame_interpolation"
    values = validate(ANIMATE_APP, {**ANIMATE, "retarget_flag": True, "use_flux": True})
    with pytest.raises(ApiError) as refused:
        choose(ANIMATE_APP.name, values, None)
    keys = {entry["key"] for entry in refused.value.as_json()["errors"]}
    assert {"yolov10m.onnx", "FLUX.1-Kontext-dev", "vitpose-l-wholebody.onnx"} <= keys


@pytest.mark.parametrize("value", ["../../secret", "/etc/passwd", "none.safetensors"])
def test_a_lora_is_only_taken_from_its_folder(loras, value):
    from wan_local.wan.service.problems import ApiError

    with pytest.raises(ApiError) as refused:
        filled(I2V_APP.name, {**I2V, "lora_file": value})
    assert refused.value.code in ("validation_error", "requirements_not_met")


@pytest.fixture
def weights(stand_in, tiny):
    """The miniatures as a user keeps real weights."""
    import shutil

    made = []
    for folder in ("diffusion_models", "text_encoders", "vae", "clip_vision"):
        target = stand_in.models_dir / folder
        target.mkdir(parents=True, exist_ok=True)
        for path in (tiny / "comfyui" / folder).glob("*.safetensors"):
            made.append(target / path.name)
            shutil.copyfile(path, made[-1])
    yield stand_in.models_dir
    for path in made:
        path.unlink(missing_ok=True)


def test_weights_are_chosen_by_what_they_are(weights):
    def model(app, **more):
        values = validate(APPS[app], {**GIVEN[app], **more})
        return choose(app, values, None).model

    plain = model(I2V_APP.name)
    assert plain["model"] == "wan2.1_i2v_tiny.safetensors" and plain["vae"] == "auto"
    assert "flf2v" in model(I2V_APP.name, end_frame="e.png")["model"]
    usual = weights / "diffusion_models" / "wan2.1_i2v_480p_14B_fp16.safetensors"
    usual.write_bytes((weights / "diffusion_models" / plain["model"]).read_bytes())
    try:
        assert model(I2V_APP.name)["model"] == usual.name  # the one that the graph names
    finally:
        usual.unlink()


def test_missing_encoders_are_named(weights):
    from wan_local.wan.service.problems import ApiError

    for path in (weights / "vae").iterdir():
        path.unlink()
    with pytest.raises(ApiError) as refused:
        choose(I2V_APP.name, validate(I2V_APP, I2V), None)
    assert [(e["key"], e["folder"]) for e in refused.value.errors] == [
        ("wan_2.1_vae.safetensors", "models/vae")
    ]
