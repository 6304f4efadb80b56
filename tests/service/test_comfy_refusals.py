"""What a host says against a graph, or about its end, in the words of the app."""

from pathlib import Path

import pytest
from wan_local.nodes.service.choices import choose
from wan_local.nodes.service.graphs import Filled, fill
from wan_local.nodes.service.outcome import error_line, outcome_of, refusal
from wan_local.nodes.service.progress import NodeProgress, Speeds, describe
from wan_local.wan.miniatures import TINY, Miniature
from wan_local.wan.params import I2V_APP, validate
from wan_local.wan.service.statuses import Status

RANDOM = Miniature(TINY)

ASSETS = Path(__file__).resolve().parents[2] / "assets"


@pytest.fixture
def values(host):
    picture = host.put_input(ASSETS / "sample.png", "infsh/sample.png")
    return validate(I2V_APP, {"prompt": "a cat", "input_image": picture, "seed": 1})


def refused(host, filled):
    body = host.validate(filled.graph)
    assert body.get("error"), "the host accepts it"
    return refusal(filled, body).as_json()


def test_all_wrong_inputs_are_parameters(host, values):
    wrong = {**values, "size": "9008x9008", "num_inference_steps": 1000}
    problem = refused(
        host, fill(I2V_APP.name, wrong, choose(I2V_APP.name, values, RANDOM), "infsh")
    )
    assert problem["status"] == 422
    assert {error["field"] for error in problem["errors"]} == {"size", "num_inference_steps"}


def test_a_lost_upload_is_told_by_its_parameter(host, values):
    wrong = {**values, "input_image": "infsh/gone.png"}
    problem = refused(
        host, fill(I2V_APP.name, wrong, choose(I2V_APP.name, values, RANDOM), "infsh")
    )
    assert [error["field"] for error in problem["errors"]] == ["input_image"]


def test_a_missing_model_of_a_workflow_is_named_with_its_folder(host):
    # 0.3.64 does not look at the lists of newer nodes, so that core's own loader is asked.
    loader = {"class_type": "VAELoader", "inputs": {"vae_name": "mine.safetensors"}}
    if "VAELoader" not in host.object_info():
        tiny = "tiny (random weights, for a try without a download)"
        parts = {"text_encoder": "auto", "vae": "mine.safetensors", "image_encoder": "auto"}
        inputs = {"model": tiny, "precision": "auto", **parts}
        loader = {"class_type": "WanLocalModelLoader", "inputs": inputs}
    output = {"name": "x", "filename_prefix": "x", "value": ["1", 0]}
    graph = {"1": loader, "2": {"class_type": "WanLocalAppOutput", "inputs": output}}
    problem = refused(host, Filled(graph, {"x": "2"}))
    assert problem["status"] == 412
    (need,) = problem["errors"]
    assert (need["key"], need["folder"]) == ("mine.safetensors", "models/vae")


def test_an_unknown_node_is_named(host):
    graph = {
        "1": {"class_type": "NodeOfAnotherPack", "inputs": {}},
        "2": {
            "class_type": "WanLocalAppOutput",
            "inputs": {"name": "x", "filename_prefix": "x", "value": ["1", 0]},
        },
    }
    problem = refused(host, Filled(graph, {"x": "2"}))
    assert problem["status"] == 422 and "NodeOfAnotherPack" in problem["detail"]


GRAPH = {"5": {"class_type": "WanLocalSampler", "inputs": {}, "_meta": {"title": "Wan Sampler"}}}
FILLED = Filled(GRAPH, {"video": "5"})


def test_an_error_is_one_line_without_its_traceback():
    data = {
        "node_id": "5",
        "exception_type": "wan_local.wan.errors.GeometryError",
        "exception_message": "Too large.\nWhy so.\nMake it smaller.\n",
        "traceback": ["secret"],
    }
    assert error_line(FILLED, data) == "Wan Sampler: Too large. Why so. Make it smaller."


def test_out_of_memory_names_a_cure():
    data = {
        "node_id": "5",
        "exception_type": "torch.OutOfMemoryError",
        "exception_message": "Allocation on device 0\ntips of the host",
    }
    line = error_line(FILLED, data)
    assert "smaller size" in line and "tips" not in line and "\n" not in line


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("execution_interrupted", Status.CANCELLED),
        ("execution_error", Status.FAILED),
        ("execution_success", Status.FAILED),  # no file was written
        ("execution_start", Status.FAILED),
    ],
)
def test_the_last_message_decides(last, status):
    entry = {"outputs": {}, "status": {"status_str": "error", "messages": [[last, {}]]}}
    assert outcome_of(FILLED, entry).status is status


@pytest.mark.parametrize("name", ["../../secret.mp4", "empty.mp4", "gone.mp4"])
def test_a_result_must_be_a_file_below_the_output_folder(stand_in, name):
    output = stand_in.base / "output"
    output.mkdir(exist_ok=True)
    (output / "empty.mp4").touch()
    (stand_in.base.parent / "secret.mp4").write_bytes(b"x")
    entry = {"filename": name, "subfolder": "", "type": "output"}
    history = {
        "outputs": {"5": {"images": [entry]}},
        "status": {"messages": [["execution_success", {}]]},
    }
    try:
        assert outcome_of(FILLED, history).status is Status.FAILED
    finally:
        (stand_in.base.parent / "secret.mp4").unlink()


def test_progress_is_weighed_and_never_falls():
    sampler = {"class_type": "WanLocalSampler", "inputs": {"num_inference_steps": 20}}
    graph = {"1": {"class_type": "LoadImage", "inputs": {}}, "2": sampler}
    progress = NodeProgress(graph, Speeds())
    progress.finish(["1"])
    small = progress.share
    assert 0 < small < 0.1
    progress.move("2", 0.5)
    half = progress.share
    progress.move("2", 0.1)  # a second bar in one node
    progress.move("unknown", 1.0)
    assert 0.45 < half < 0.6 and progress.share == half
    progress.finish(["2"])
    assert progress.share == 1.0
    assert describe(sampler, "Wan Sampler", 0.35) == "Wan Sampler 7/20"


def test_what_nodes_took_before_weighs_them_the_next_time():
    sampler = {"class_type": "WanLocalSampler", "inputs": {"num_inference_steps": 20}}
    decode = {"class_type": "WanLocalDecode", "inputs": {}}
    graph, speeds = {"1": sampler, "2": decode}, Speeds()
    plain = NodeProgress(graph, speeds)
    plain.finish(["1"])
    speeds.learn(sampler, 10.0)
    speeds.learn(decode, 30.0)
    learnt = NodeProgress(graph, speeds)
    learnt.finish(["1"])
    assert plain.share > 0.8 and abs(learnt.share - 0.25) < 0.01
    # Twice the steps take twice as long.
    sampler["inputs"]["num_inference_steps"] = 40
    longer = NodeProgress(graph, speeds)
    longer.finish(["1"])
    assert abs(longer.share - 0.4) < 0.01
