"""What a file tells, and that ComfyUI's page finds its graph where it looks for it."""

import json
import struct

import av
import pytest
import torch
from wan_local.wan.media import formats
from wan_local.wan.media.formats import Encoding, offered_formats
from wan_local.wan.params import I2V_APP, validate
from wan_local.wan.save.metadata import OWN_TAG, graph_tags, run_tags
from wan_local.wan.save.video import write_video

GRAPH = {
    "1": {"class_type": "WanLocalModelLoader", "inputs": {"model": "auto"}},
    "2": {
        "class_type": "WanLocalSampler",
        "inputs": {"model": ["1", 0], "seed": 2**63, "steps": 4},
    },
    "3": {"class_type": "WanLocalDecode", "inputs": {"latents": ["2", 0], "model": ["1", 0]}},
    "4": {"class_type": "ImageScale", "inputs": {"image": ["3", 0], "width": 640}},
    "5": {"class_type": "WanLocalSaveVideo", "inputs": {"images": ["4", 0], "fps": 16.0}},
    "6": {"class_type": "WanLocalSampler", "inputs": {"seed": 7}},  # leads elsewhere
    "7": {"class_type": "PreviewAny", "inputs": {"source": ["6", 0]}},
}
# The page's own graph holds whatever people type: quotes, line ends, other scripts.
PAGE = {"workflow": {"nodes": [{"id": 1, "widgets_values": ['"ü" \n 镜头 \u0000 {{}} \\ 🙂 {']}]}}


def written(tmp_path, form, tags, frames=20):
    path = tmp_path / f"a{form.suffix}"
    pixels = torch.zeros(frames, 64, 64, 3, dtype=torch.uint8)
    write_video(path, [pixels], 16, Encoding(form), tags=tags)
    with av.open(str(path)) as container:
        return path, {k.lower(): v for k, v in container.metadata.items()}


@pytest.fixture(params=formats.FORMATS, ids=lambda f: f.name)
def form(request):
    if request.param not in offered_formats():
        pytest.skip("not in this FFmpeg")
    return request.param


def test_a_graph_comes_back_from_every_format(tmp_path, form):
    _, tags = written(tmp_path, form, graph_tags(GRAPH, PAGE, "5"))
    assert json.loads(tags["workflow"]) == PAGE["workflow"]
    assert json.loads(tags["prompt"]) == GRAPH
    assert json.loads(tags[OWN_TAG])["seed"] == 2**63


def test_without_tags_nothing_is_told(tmp_path, form):
    path, tags = written(tmp_path, form, None)
    assert not {"workflow", "prompt", OWN_TAG, "comment", "description"} & tags.keys()
    assert b"workflow" not in path.read_bytes().lower()


def boxes(data, begin, end):
    """Boxes of an MP4 by name: (begin, end) of what is in them."""
    found = {}
    while begin < end:
        size, name = struct.unpack(">I4s", data[begin : begin + 8])
        found[name.decode("latin1")] = begin + 8, begin + size
        begin += size
    return found


def test_the_page_finds_the_graph_in_mp4(tmp_path):
    """It takes moov/udta/meta, pairs `keys` with `ilst`, and reads 64 MB at most."""
    path, _ = written(tmp_path, formats.FORMATS[0], graph_tags(GRAPH, PAGE, "5"))
    data = path.read_bytes()
    outer = boxes(data, 0, len(data))
    assert list(outer).index("moov") < list(outer).index("mdat")
    meta = boxes(data, *boxes(data, *outer["moov"])["udta"])["meta"]
    inner = boxes(data, meta[0] + 4, meta[1])
    at, names = inner["keys"][0] + 8, []
    while at < inner["keys"][1]:
        size = struct.unpack(">I", data[at : at + 4])[0]
        names.append(data[at + 8 : at + size].decode())
        at += size
    values = {}
    at = inner["ilst"][0]
    while at < inner["ilst"][1]:
        size, index = struct.unpack(">II", data[at : at + 8])
        values[names[index - 1]] = data[at + 24 : at + size]
        at += size
    assert json.loads(values["workflow"]) == PAGE["workflow"]
    assert json.loads(values["prompt"]) == GRAPH


@pytest.mark.parametrize("form", [f for f in formats.FORMATS if f.suffix == ".webm"], ids=str)
def test_the_page_finds_the_graph_in_webm(tmp_path, form):
    """It reads 2 MB at most, and knows the names in capitals only."""
    if form not in offered_formats():
        pytest.skip("not in this FFmpeg")
    path, _ = written(tmp_path, form, graph_tags(GRAPH, PAGE, "5"))
    data = path.read_bytes()
    first_frames = data.index(b"\x1f\x43\xb6\x75")  # a Cluster
    for name in (b"WORKFLOW", b"PROMPT"):
        at = data.index(b"\x45\xa3" + bytes([0x80 + len(name)]) + name)  # TagName, its length
        assert at < first_frames


def test_braces_in_texts_do_not_hide_where_the_graph_ends():
    """Pages of ComfyUI 0.3.64 count every brace of a WebM's tag, those in texts as well."""
    text = graph_tags(None, PAGE, None)["workflow"]
    depth = [text[: i + 1].count("{") - text[: i + 1].count("}") for i in range(len(text))]
    assert depth.index(0) == len(text) - 1 and json.loads(text) == PAGE["workflow"]


def test_our_tag_tells_of_our_nodes_that_lead_to_the_file():
    told = json.loads(graph_tags(GRAPH, None, "5")[OWN_TAG])
    assert told["seed"] == 2**63
    assert [n["node"] for n in told["nodes"]] == [
        "WanLocalSaveVideo",
        "WanLocalDecode",
        "WanLocalSampler",
        "WanLocalModelLoader",
    ]
    assert told["nodes"][2]["inputs"] == {"seed": 2**63, "steps": 4}
    assert json.loads(graph_tags(GRAPH, None, "7")[OWN_TAG])["seed"] == 7
    assert json.loads(graph_tags({"9": {"class_type": "X", "inputs": {}}}, {}, "9")[OWN_TAG]) == {
        "seed": None,
        "nodes": [],
    }


def test_a_graph_that_runs_in_a_circle_ends():
    circle = {k: {"class_type": "WanLocalX", "inputs": {"a": [o, 0]}} for k, o in ("12", "21")}
    assert len(json.loads(graph_tags(circle, None, "1")[OWN_TAG])["nodes"]) == 2


def test_without_a_graph_only_what_the_page_sent_is_told():
    assert graph_tags(None, None, None) == {}
    assert graph_tags(None, {"text": "as it is", "list": [1]}, None) == {
        "text": "as it is",
        "list": "[1]",
    }


def test_a_run_tells_parameters_and_drawn_seed_but_no_folders_and_no_passwords():
    given = {
        "prompt": "a cat",
        "input_image": "/home/someone/secret/cat.png",
        "end_frame": r"C:\Users\someone\end.png",
        "lora_file": "https://example.com/files/style.safetensors?token=12345",
        "num_frames": 81,
    }
    values = validate(I2V_APP, given)
    text = run_tags(I2V_APP, values, 42)[OWN_TAG]
    told = json.loads(text)
    assert told["app"] == "wan2-1-i2v" and told["seed"] == told["parameters"]["seed"] == 42
    assert told["parameters"].keys() == values.keys() and told["parameters"]["num_frames"] == 81
    files = [told["parameters"][name] for name in ("input_image", "end_frame", "lora_file")]
    assert files == ["cat.png", "end.png", "style.safetensors"]
    assert not any(word in text for word in ("someone", "secret", "12345", "example.com"))
