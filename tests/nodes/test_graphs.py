"""The shipped graphs, on the stand-in and on every real ComfyUI that is found."""

import copy
import json
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from shipped_graphs import api, random_weights

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
OURS = sorted(json.loads((ROOT / "node_list.json").read_text("utf8")))
CORE = {"LoadImage", "LoadVideo"}
BYPASSED = 4
TINY = "tiny (random weights, for a try without a download)"
I2V = [name for name in NAMES if name.startswith("wan_i2v")]


def ui(name):
    return json.loads((WORKFLOWS / f"{name}.json").read_text("utf8"))


@pytest.fixture
def tiny_prompt(host):
    """The tiny graph on this host, small, with the shipped sample as its image."""
    prompt = random_weights("wan_i2v")
    by_class = {node["class_type"]: node["inputs"] for node in prompt.values()}
    by_class["LoadImage"]["image"] = host.put_input(ROOT / "assets" / "sample.png")
    by_class["WanLocalImageToVideo"].update(width=96, height=64, num_frames=9)
    by_class["WanLocalSampler"].update(num_inference_steps=3)
    return prompt


def node_id(prompt, class_type):
    return next(i for i, node in prompt.items() if node["class_type"] == class_type)


def inputs(prompt, class_type):
    return prompt[node_id(prompt, class_type)]["inputs"]


def specs(info):
    """Input specifications of a node by name, in the page's order, from its object_info."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def widgets(info):
    """Names of a node's widgets in the page's order."""
    kinds = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
    return [n for n, spec in specs(info).items() if isinstance(spec[0], list) or spec[0] in kinds]


def resolve(page, link_id):
    """[node id, slot] that a link of a page's graph comes from, past bypassed nodes, or None."""
    links = {link[0]: link for link in page["links"]}
    _, source, slot, *_, kind = links[link_id]
    node = next(n for n in page["nodes"] if n["id"] == source)
    if node["mode"] != BYPASSED:
        return [str(source), slot]
    passed = (e["link"] for e in node["inputs"] if e["type"] == kind and e["link"] is not None)
    return next((resolve(page, link) for link in passed), None)


def switched_on(page, prompt, info):
    """The prompt of a graph of the page whose bypassed nodes were switched on."""
    prompt = copy.deepcopy(prompt)
    links = {link[0]: link for link in page["links"]}
    for node in page["nodes"]:
        if node["mode"] == BYPASSED:
            given = dict(zip(widgets(info[node["type"]]), node["widgets_values"], strict=True))
            prompt[str(node["id"])] = {"class_type": node["type"], "inputs": given}
    for node in page["nodes"]:
        for entry in node["inputs"]:
            _, source, slot, target, *_ = links[entry["link"]]
            prompt[str(target)]["inputs"][entry["name"]] = [str(source), slot]
    return prompt


def test_every_graph_has_both_formats():
    assert sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json")) == NAMES and NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_formats_agree_and_every_node_and_socket_exists(name, host):
    page, prompt, info = ui(name), api(name), host.object_info()
    nodes = {str(n["id"]): n for n in page["nodes"] if n["type"] != "MarkdownNote"}
    assert prompt.keys() == {key for key, node in nodes.items() if node["mode"] != BYPASSED}
    links = {link[0]: link for link in page["links"]}
    for key, node in nodes.items():
        kind = node["type"]
        assert kind in info, kind
        known, values, given = specs(info[kind]), list(node["widgets_values"]), {}
        shown = switched_on(page, prompt, info)[key]
        assert kind == shown["class_type"]
        # Newer hosts append widgets with defaults to core's nodes; to ours only we do.
        linked = {e["name"] for e in node["inputs"] if "widget" in e}
        expected = [n for n, v in shown["inputs"].items() if not isinstance(v, list) or n in linked]
        assert set(expected) <= known.keys()
        for widget in expected if kind in CORE else widgets(info[kind]):
            given[widget] = values.pop(0)
            options = known[widget][1] if len(known[widget]) > 1 else {}
            if options.keys() & {"control_after_generate", "image_upload", "video_upload"}:
                assert values.pop(0) in ("randomize", "fixed", "image")
        assert values == [], f"{kind} has more values than widgets"
        for entry in node["inputs"]:
            _, source, slot, target, _, link_type = links[entry["link"]]
            found = resolve(page, entry["link"])
            if found or "widget" not in entry:
                given[entry["name"]] = found
            assert str(target) == key
            output_type = info[nodes[str(source)]["type"]]["output"][slot]
            assert output_type == link_type == entry["type"]
        if node["mode"] != BYPASSED:
            assert given == prompt[key]["inputs"], kind


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("wan_i2v", 7),
        ("wan_i2v_mini", 7),
        ("wan_i2v_end_frame", 8),
        ("wan_i2v_long", 9),
        ("wan_animation", 10),
        ("wan_animation_mini", 9),
        ("wan_replacement", 12),
        ("wan_replacement_mini", 11),
        ("wan_pose", 7),
    ],
)
def test_graphs_need_only_core_and_us_and_keep_their_node_count(name, count):
    kinds = [node["class_type"] for node in api(name).values()]
    assert set(kinds) <= CORE | set(OURS)
    assert len(kinds) == count


@pytest.mark.parametrize("name", [n for n in NAMES if not n.endswith("mini") and n != "wan_pose"])
def test_model_links_are_embedded_where_files_are_named(name):
    page = ui(name)
    loader = next(n for n in page["nodes"] if n["type"] == "WanLocalModelLoader")
    assert [m["name"] for m in loader["properties"]["models"]] == loader["widgets_values"][:4]
    models = [m for n in page["nodes"] for m in n["properties"].get("models", ())]
    assert all(m["url"].startswith("https://huggingface.co/") for m in models)
    assert all(m["url"].endswith(m["name"]) for m in models)
    note = next(n for n in page["nodes"] if n["type"] == "MarkdownNote")["widgets_values"][0]
    assert all(f"models/{m['directory']}" in note and m["name"] in note for m in models)


@pytest.mark.parametrize("name", NAMES)
def test_values_have_the_types_of_their_inputs(name, host):
    """The host itself takes any text for a yes."""
    kinds = {"BOOLEAN": bool, "INT": int, "FLOAT": (int, float), "STRING": str}
    info = host.object_info()
    for node in api(name).values():
        known = specs(info[node["class_type"]])
        for key, value in node["inputs"].items():
            kind = known[key][0]
            if not isinstance(value, list) and isinstance(kind, str) and kind in kinds:
                assert isinstance(value, kinds[kind]), (node["class_type"], key, value)


def test_generator_writes_what_is_shipped(tmp_path, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("make", ROOT / "scripts" / "make_workflows.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    monkeypatch.setattr(make, "WORKFLOWS", tmp_path)
    make.main()
    for name in NAMES:
        assert json.loads((tmp_path / f"{name}.json").read_text("utf8")) == ui(name)
        assert json.loads((tmp_path / "api" / f"{name}.json").read_text("utf8")) == api(name)


def test_all_nodes_load_with_texts(host):
    info = host.object_info()
    assert [name for name in OURS if name not in info] == []
    for name in OURS:
        node = info[name]
        assert node["display_name"].startswith("Wan ") and node["description"]
        assert node["category"].startswith("wan/")
        for group in ("required", "optional"):
            for key, spec in node["input"].get(group, {}).items():
                assert len(spec) > 1 and spec[1].get("tooltip"), f"{name}.{key} has no tooltip"
        assert all(node["output_tooltips"]) and len(node["output_tooltips"]) == len(node["output"])
        assert all(node["output_name"])
    seed = info["WanLocalSampler"]["input"]["required"]["seed"][1]
    assert seed["control_after_generate"]


def frames_of(host, prompt):
    """Run a graph with its frames saved as PNG: x264 does not always write the same file."""
    decode = node_id(prompt, "WanLocalDecode")
    plain = {k: n for k, n in prompt.items() if n["class_type"] != "WanLocalSaveVideo"}
    saved = {"images": [decode, 0], "filename_prefix": f"frames{time.monotonic_ns()}"}
    plain["save"] = {"class_type": "SaveImage", "inputs": saved}
    result = host.run(plain)
    assert result.status == "success", result.error
    return np.stack([np.asarray(Image.open(path)) for path in result.outputs]).astype(int)


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return frames, float(stream.average_rate)


def test_tiny_graph_makes_a_video_of_the_right_shape(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 101
    result = host.run(tiny_prompt)
    assert result.status == "success", result.error
    (path,) = result.outputs
    frames, rate = read_video(path)
    # 640x384 in an area of 96x64 pixels: 101x60 before the floor to 16.
    assert len(frames) == 9 and frames[0].shape == (48, 96, 3) and rate == 16
    assert frames[0].std() > 1
    for kind in ("WanLocalImageToVideo", "WanLocalSampler", "WanLocalDecode", "WanLocalSaveVideo"):
        steps = [value / total for value, total in result.progress[node_id(tiny_prompt, kind)]]
        assert steps == sorted(steps) and steps[-1] == 1, kind


@pytest.mark.parametrize("name", [name for name in I2V if "mini" not in name])
def test_every_i2v_graph_runs_with_the_tiny_models(host, name):
    prompt = api(name)
    inputs(prompt, "WanLocalModelLoader").update(
        inputs(random_weights("wan_i2v"), "WanLocalModelLoader")
    )
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = host.put_input(ROOT / "assets" / "sample.png")
    inputs(prompt, "WanLocalImageToVideo").update(width=96, height=64, num_frames=9)
    inputs(prompt, "WanLocalSampler").update(num_inference_steps=6, seed=120)
    result = host.run(prompt)
    assert result.status == "success", result.error
    assert len(read_video(result.outputs[0])[0]) == 9


def test_upsampling_can_be_switched_on_in_the_shipped_graph(host):
    prompt = switched_on(ui("wan_i2v"), api("wan_i2v"), host.object_info())
    inputs(prompt, "WanLocalModelLoader").update(
        inputs(random_weights("wan_i2v"), "WanLocalModelLoader")
    )
    inputs(prompt, "LoadImage")["image"] = host.put_input(ROOT / "assets" / "sample.png")
    inputs(prompt, "WanLocalImageToVideo").update(width=96, height=64, num_frames=5)
    inputs(prompt, "WanLocalSampler").update(num_inference_steps=2, seed=131)
    inputs(prompt, "WanLocalRifeLoader")["rife_name"] = TINY
    inputs(prompt, "WanLocalRifeInterpolate")["factor"] = 4
    inputs(prompt, "WanLocalLanczosResize")["factor"] = 1.5
    result = host.run(prompt)
    assert result.status == "success", result.error
    frames, rate = read_video(result.outputs[0])
    assert len(frames) == 17 and frames[0].shape == (72, 144, 3) and rate == 64


def test_cores_nodes_can_write_the_video_too(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 132
    del tiny_prompt[node_id(tiny_prompt, "WanLocalSaveVideo")]
    images = [node_id(tiny_prompt, "WanLocalDecode"), 0]
    tiny_prompt["make"] = {"class_type": "CreateVideo", "inputs": {"images": images, "fps": 24.0}}
    target = {"filename_prefix": "core", "format": "auto", "codec": "auto", "video": ["make", 0]}
    tiny_prompt["save"] = {"class_type": "SaveVideo", "inputs": target}
    result = host.run(tiny_prompt)
    assert result.status == "success", result.error
    frames, rate = read_video(result.outputs[0])
    assert len(frames) == 9 and rate == 24


OPTIONS = {
    "WanLocalTeaCache": (
        "cache",
        {"tea_cache": 2.0, "tea_cache_start_step_perc": 0, "coefficients": "auto"},
    ),
    "WanLocalMagCache": (
        "cache",
        {"threshold": 0.5, "max_skips": 4, "retention": 0.2, "ratios": "480p"},
    ),
    "WanLocalGuidanceOptions": (
        "guidance",
        {"cfg_star_switch": True, "cfg_zero_step": -1, "zero_init_steps": 0},
    ),
    "WanLocalSamplingOptions": (
        "options",
        {
            "enable_RIFLEx": True,
            "riflex_k": 0,
            "riflex_force": True,
            "joint_pass": True,
            "attention": "sage",
        },
    ),
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_an_option_node_plugs_in_and_changes_the_video(host, tiny_prompt, kind):
    inputs(tiny_prompt, "WanLocalSampler").update(seed=121, num_inference_steps=10)
    plain = frames_of(host, tiny_prompt)
    socket, widgets_of_node = OPTIONS[kind]
    tiny_prompt["option"] = {"class_type": kind, "inputs": dict(widgets_of_node)}
    inputs(tiny_prompt, "WanLocalSampler")[socket] = ["option", 0]
    changed = frames_of(host, tiny_prompt)
    assert changed.shape == plain.shape and abs(changed - plain).mean() > 0.3


def test_the_end_frame_socket_changes_the_video(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 122
    plain = frames_of(host, tiny_prompt)
    inputs(tiny_prompt, "WanLocalImageToVideo")["end_frame"] = [
        node_id(tiny_prompt, "LoadImage"),
        0,
    ]
    assert abs(frames_of(host, tiny_prompt) - plain).mean() > 0.3


def test_exact_size_and_tiles_on_the_nodes(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 123
    exact = {"width": 160, "height": 160, "size_mode": "exact, centre crop", "vae_tile_size": 128}
    inputs(tiny_prompt, "WanLocalImageToVideo").update(exact)
    inputs(tiny_prompt, "WanLocalDecode")["vae_tile_size"] = 128
    assert frames_of(host, tiny_prompt).shape == (9, 160, 160, 3)


def test_identical_second_run_is_served_from_the_cache(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 102
    assert host.run(tiny_prompt).status == "success"
    again = host.run(tiny_prompt)
    ours = {i for i, node in tiny_prompt.items() if node["class_type"].startswith("WanLocal")}
    assert again.status == "success" and ours <= set(again.cached)


def test_only_what_a_change_touches_runs_again(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 103
    host.run(tiny_prompt)
    changed = copy.deepcopy(tiny_prompt)
    inputs(changed, "WanLocalSampler")["seed"] = 104
    again = host.run(changed)
    cached = {tiny_prompt[i]["class_type"] for i in again.cached}
    assert {"WanLocalModelLoader", "WanLocalPromptEncode", "WanLocalImageToVideo"} <= cached
    assert "WanLocalSampler" not in cached


def test_same_seed_gives_the_same_frames_on_a_host(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 105
    first = frames_of(host, tiny_prompt)
    # Back and forth between seeds and prompts, so that nothing comes from the host's cache.
    other = copy.deepcopy(tiny_prompt)
    inputs(other, "WanLocalSampler")["seed"] = 106
    assert (frames_of(host, other) != first).any()
    inputs(other, "WanLocalPromptEncode")["negative_prompt"] = " "
    assert (frames_of(host, other) != first).any()
    assert (frames_of(host, tiny_prompt) == first).all()


def test_interrupt_while_sampling_leaves_the_host_healthy(host, tiny_prompt):
    sampler = node_id(tiny_prompt, "WanLocalSampler")
    prompt = copy.deepcopy(tiny_prompt)
    inputs(prompt, "WanLocalSampler").update(num_inference_steps=100, seed=107)

    def first_steps(event):
        data = event["data"]
        return event["type"] == "progress" and data["node"] == sampler and data["value"] > 0

    result = host.run_and_interrupt(prompt, first_steps)
    assert result.status == "interrupted" and result.outputs == []
    # Half of the promised second: the machine may be busy.
    assert result.cancel_seconds < 2
    assert host.alive()
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 108
    assert host.run(tiny_prompt).status == "success"


@pytest.mark.parametrize(
    ("kind", "name", "value", "expected"),
    [
        ("WanLocalSampler", "num_inference_steps", 0, "1"),
        ("WanLocalSampler", "shift", 0, "0.1"),
        ("WanLocalModelLoader", "model", "none.safetensors", "none.safetensors"),
    ],
)
def test_wrong_values_are_refused_before_anything_runs(
    host, tiny_prompt, kind, name, value, expected
):
    inputs(tiny_prompt, kind)[name] = value
    body = host.validate(tiny_prompt)
    assert body, "the host took a wrong value"
    errors = body["node_errors"][node_id(tiny_prompt, kind)]["errors"]
    assert any(expected in json.dumps(error, ensure_ascii=False) for error in errors)


def test_an_empty_prompt_is_told_by_the_node(host, tiny_prompt):
    """Only the model knows whether an empty prompt has a meaning: with Animate weights it has."""
    inputs(tiny_prompt, "WanLocalPromptEncode")["prompt"] = "  "
    result = host.run(tiny_prompt)
    assert result.status == "error" and "prompt is empty" in result.error
    assert result.error_node == node_id(tiny_prompt, "WanLocalPromptEncode")


def test_an_unknown_solver_is_named(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler").update(sample_solver="euler", seed=109)
    body = host.validate(tiny_prompt)
    if not body:  # 0.3.64 lets any text reach the node
        result = host.run(tiny_prompt)
        assert result.status == "error" and "unipc, dpm++" in result.error
    else:
        assert "euler" in json.dumps(body)


def test_all_missing_files_are_named_at_once(host, tiny_prompt, tiny):
    target = host.models_dir / "diffusion_models"
    target.mkdir(parents=True, exist_ok=True)
    model = tiny / "comfyui" / "diffusion_models" / "wan2.1_i2v_tiny.safetensors"
    (target / model.name).write_bytes(model.read_bytes())
    names = {"text_encoder": "t.safetensors", "vae": "v.safetensors"}
    inputs(tiny_prompt, "WanLocalModelLoader").update(model=model.name, **names)
    body = host.validate(tiny_prompt)
    # 0.33 looks itself whether a choice is in its list; 0.3.64 leaves it to the node.
    text = json.dumps(body) if body else host.run(tiny_prompt).error
    assert all(name in text for name in names.values())


def test_two_wrong_kinds_of_files_are_named(host, tiny_prompt, tiny):
    target = host.models_dir / "diffusion_models"
    target.mkdir(parents=True, exist_ok=True)
    vae = next((tiny / "comfyui" / "vae").glob("*.safetensors"))
    (target / "a_vae.safetensors").write_bytes(vae.read_bytes())
    (target / "half.safetensors").write_bytes(vae.read_bytes()[:-1000])
    for name, expected in (("a_vae.safetensors", "VAE"), ("half.safetensors", "half.safetensors")):
        inputs(tiny_prompt, "WanLocalModelLoader")["model"] = name
        assert expected in json.dumps(host.validate(tiny_prompt), ensure_ascii=False)


def test_single_files_in_comfyuis_folders_make_the_same_video(host, tiny_prompt, tiny):
    for folder in ("diffusion_models", "text_encoders", "vae", "clip_vision"):
        target = host.models_dir / folder
        target.mkdir(parents=True, exist_ok=True)
        for path in (tiny / "comfyui" / folder).glob("*.safetensors"):
            (target / path.name).write_bytes(path.read_bytes())
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 110
    expected = frames_of(host, tiny_prompt)
    name = next(p.name for p in (tiny / "comfyui" / "diffusion_models").glob("*i2v*"))
    single = copy.deepcopy(tiny_prompt)
    inputs(single, "WanLocalModelLoader")["model"] = name
    # Mapped weights of another file lie otherwise in memory, which moves the last bit.
    assert abs(frames_of(host, single) - expected).max() <= 1


def test_previews_come_when_the_user_has_them_on(host, tiny_prompt):
    inputs(tiny_prompt, "WanLocalSampler")["seed"] = 111
    assert host.run(tiny_prompt).previews >= (3 if host.previews else 0)
