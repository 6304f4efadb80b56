"""The stand-in runs graphs as a real host does: validation, cache, progress, cancel, videos."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from . import use_standin
from .hosts import PromptRefusedError
from .standin_host import StandInHost

use_standin()

import comfy.model_management as management  # noqa: E402
import latent_preview  # noqa: E402
from comfy.latent_formats import Wan21  # noqa: E402
from comfy.utils import ProgressBar  # noqa: E402
from comfy_api.latest import ComfyExtension, InputImpl, Types, io  # noqa: E402

CALLS = []


class ToyNode(io.ComfyNode):
    """A class in between: scanners that list a pack's nodes must not find these."""


class ToyFrames(ToyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyFrames",
            inputs=[
                io.Int.Input("frames", default=3, min=1, max=100),
                io.Int.Input("width", default=32, min=1, max=64),
                io.Float.Input("shade", default=0.5, min=0.0, max=1.0),
                io.Combo.Input("mood", options=["calm", "wild"]),
            ],
            outputs=[io.Image.Output("images", display_name="images")],
        )

    @classmethod
    def fingerprint_inputs(cls, mood, **kwargs):
        return mood

    @classmethod
    def execute(cls, frames, width, shade, mood):
        CALLS.append((frames, width, shade, mood, torch.is_inference_mode_enabled()))
        return io.NodeOutput(torch.full((frames, 16, width, 3), shade))


class ToySlow(ToyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToySlow",
            inputs=[io.Image.Input("images"), io.Int.Input("steps", default=3, max=1000)],
            outputs=[io.Image.Output("slow", display_name="images")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, steps):
        return True if steps != 13 else "13 steps bring bad luck"

    @classmethod
    def execute(cls, images, steps):
        CALLS.append(cls.hidden)
        bar = ProgressBar(steps)
        previewer = latent_preview.get_previewer(torch.device("cpu"), Wan21())
        for step in range(steps):
            x0 = torch.zeros(1, 16, 1, 4, 6)
            shown = previewer and previewer.decode_latent_to_preview_image("JPEG", x0)
            bar.update_absolute(step + 1, steps, shown)
            time.sleep(0.005)
        return io.NodeOutput(images)


class ToyFails(ToyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ToyFails",
            inputs=[
                io.Combo.Input("how", options=["value", "state", "cancel", "memory"]),
                io.Image.Input("images", optional=True, lazy=True),
            ],
            is_output_node=True,
        )

    @classmethod
    def check_lazy_status(cls, how, images=None):
        return []

    @classmethod
    def execute(cls, how, images=None):
        if how == "state":
            cls.count = 1
        if how == "cancel":
            raise management.InterruptProcessingException
        if how == "memory":
            raise management.OOM_EXCEPTION("out of memory")
        raise ValueError("no such luck")


class ToyExtension(ComfyExtension):
    async def get_node_list(self):
        return [ToyFrames, ToySlow, ToyFails]


@pytest.fixture(scope="module")
def toy_host():
    host = StandInHost(SimpleNamespace(comfy_entrypoint=ToyExtension))
    yield host
    host.close()


@pytest.fixture
def toys(toy_host):
    CALLS.clear()
    toy_host.runner.cache.clear()
    return toy_host


def frames(**changes):
    inputs = {"frames": 3, "width": 32, "shade": 0.5, "mood": "calm", **changes}
    return {"class_type": "ToyFrames", "inputs": inputs}


def graph(steps=3, **changes):
    """frames -> slow -> CreateVideo -> SaveVideo"""
    save = {"video": ["3", 0], "filename_prefix": "toys/clip", "format": "auto", "codec": "auto"}
    return {
        "1": frames(**changes),
        "2": {"class_type": "ToySlow", "inputs": {"images": ["1", 0], "steps": steps}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 8}},
        "4": {"class_type": "SaveVideo", "inputs": save},
    }


def problems(body):
    return {node: [e["type"] for e in v["errors"]] for node, v in body["node_errors"].items()}


def test_graph_saves_a_video_and_reports(toys):
    result = toys.run(graph(), extra_pnginfo={"workflow": {"a": 1}})
    assert result.status == "success" and result.executed == ["1", "2", "3", "4"]
    assert result.progress == {"2": [(1, 3), (2, 3), (3, 3)]} and result.previews == 3
    (file,) = result.outputs
    assert file == toys.base / "output" / "toys" / "clip_00001_.mp4"
    parts = InputImpl.VideoFromFile(str(file)).get_components()
    assert parts.images.shape == (3, 16, 32, 3) and parts.frame_rate == 8
    assert abs(parts.images - 0.5).max() < 0.02
    assert "ToyFrames" in parts.metadata["prompt"] and parts.metadata["workflow"] == '{"a": 1}'


def test_nodes_run_in_inference_mode_and_see_hidden_values(toys):
    prompt = graph()
    toys.run(prompt, extra_pnginfo={"workflow": 1})
    made, hidden = CALLS
    assert made == (3, 32, 0.5, "calm", True)
    assert hidden.unique_id == "2" and hidden.extra_pnginfo == {"workflow": 1}
    assert hidden.prompt["1"]["class_type"] == "ToyFrames" and hidden.dynprompt is None
    assert ToySlow.hidden is None


def test_second_identical_run_is_cached_and_tells_its_file_again(toys):
    first, second = toys.run(graph()), toys.run(graph())
    assert sorted(second.cached) == ["1", "2", "3", "4"] and second.executed == []
    assert second.outputs == first.outputs and len(CALLS) == 2


def test_changed_input_runs_only_what_depends_on_it(toys):
    toys.run(graph(steps=2))
    assert toys.run(graph(steps=3)).cached == ["1"]


def test_cache_keeps_only_what_the_last_prompt_used(toys):
    toys.run(graph(shade=0.1))
    toys.run(graph(shade=0.2))
    assert toys.run(graph(shade=0.1)).cached == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"frames": 0}, {"1": ["value_smaller_than_min"]}),
        ({"frames": 101, "width": 65}, {"1": ["value_bigger_than_max"] * 2}),
        ({"frames": "many"}, {"1": ["invalid_input_type"]}),
        ({"mood": "sad"}, {"1": ["value_not_in_list"]}),
        ({"shade": ["9"]}, {"1": ["bad_linked_input"]}),
        ({"shade": ["3", 0]}, {"1": ["return_type_mismatch"]}),
        ({"steps": 13}, {"2": ["custom_validation_failed"]}),
    ],
)
def test_validation_names_node_and_problem(toys, changes, expected):
    body = toys.validate(graph(**changes))
    assert problems(body) == expected
    with pytest.raises(PromptRefusedError, match="failed_validation"):
        toys.run(graph(**changes))


def test_validation_error_has_the_shape_of_the_host(toys):
    error = toys.validate(graph(steps=13))["node_errors"]["2"]
    assert error["class_type"] == "ToySlow" and error["dependent_outputs"] == ["4"]
    assert error["errors"] == [
        {
            "type": "custom_validation_failed",
            "message": "Custom validation failed for node",
            "details": "steps - 13 steps bring bad luck",
            "extra_info": {"input_name": "steps"},
        }
    ]


def test_validation_of_missing_inputs_classes_and_outputs(toys):
    prompt = graph()
    del prompt["2"]["inputs"]["images"]
    assert problems(toys.validate(prompt)) == {"2": ["required_input_missing"]}
    prompt["2"]["class_type"] = "NoSuchNode"
    assert toys.validate(prompt)["error"]["type"] == "missing_node_type"
    assert toys.validate({"1": frames()})["error"]["type"] == "prompt_no_outputs"
    assert toys.validate(graph()) == {}


def test_link_to_a_node_that_is_not_there(toys):
    prompt = graph()
    del prompt["1"]
    assert problems(toys.validate(prompt)) == {"2": ["exception_during_inner_validation"]}
    prompt["4"]["inputs"]["video"] = ["no", 0]
    assert problems(toys.validate(prompt)) == {"4": ["exception_during_validation"]}


def test_values_are_converted_and_own_checks_replace_limits(toys):
    prompt = graph(frames="3", width=32.7)
    assert toys.run(prompt).status == "success"
    assert CALLS[0][:2] == (3, 32) and prompt["1"]["inputs"]["frames"] == "3"
    # validate_inputs names steps, so its own maximum of 1000 is not looked at any more
    assert toys.validate(graph(steps=1001)) == {}


def test_good_output_runs_beside_a_refused_one(toys):
    fails = {"class_type": "ToyFails", "inputs": {"how": "nonsense"}}
    result = toys.run({**graph(), "5": fails})
    assert result.status == "success" and list(result.node_errors) == ["5"]


def test_interrupt_ends_the_run_at_the_next_report(toys):
    result = toys.run_and_interrupt(graph(steps=500), lambda e: e["type"] == "progress")
    assert result.status == "interrupted" and result.cancel_seconds < 1
    assert len(result.progress["2"]) < 100
    assert toys.run(graph()).cached == ["1"]  # finished nodes stay cached


def test_errors_carry_type_message_and_node(toys):
    prompt = {"7": {"class_type": "ToyFails", "inputs": {"how": "value"}}}
    result = toys.run(prompt)
    assert (result.status, result.error_type, result.error) == (
        "error",
        "ValueError",
        "no such luck",
    )
    assert result.error_node == "7"
    prompt["7"]["inputs"]["how"] = "state"
    assert toys.run(prompt).error_type == "AttributeError"
    prompt["7"]["inputs"]["how"] = "cancel"
    assert toys.run(prompt).status == "interrupted"
    prompt["7"]["inputs"]["how"] = "memory"
    assert toys.run(prompt).error_type == "OutOfMemoryError"


def test_lazy_input_not_asked_for_does_not_run(toys):
    inputs = {"how": "value", "images": ["1", 0]}
    result = toys.run({"1": frames(), "2": {"class_type": "ToyFails", "inputs": inputs}})
    assert result.executed == ["2"] and CALLS == []


def test_odd_side_fails_when_saved(toys):
    result = toys.run(graph(width=33))
    assert result.status == "error" and result.error_node == "4" and result.outputs == []


def test_object_info_describes_inputs_and_outputs(toys):
    info = toys.object_info()["ToyFrames"]
    kind, options = info["input"]["required"]["frames"]
    assert kind == "INT" and (options["default"], options["max"]) == (3, 100)
    assert info["input"]["required"]["mood"][1]["options"] == ["calm", "wild"]
    assert info["output"] == ["IMAGE"] and info["output_name"] == ["images"]
    assert toys.object_info()["CreateVideo"]["output_name"] == ["VIDEO"]


def test_schema_refuses_what_0_3_64_does_not_know():
    with pytest.raises(TypeError):
        io.Schema(node_id="A", search_aliases=["b"])
    with pytest.raises(TypeError):
        io.Int.Input("a", advanced=True)


def test_load_image_turns_it_upright_and_reads_alpha(toys, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new("RGB", (8, 4), "red").save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGBA", (8, 4), (255, 0, 0, 51)).save(tmp_path / "b.png")
    node = toys.runner.nodes["LoadImage"]
    image, mask = node.execute(image=toys.put_input(tmp_path / "a.jpg")).args
    assert image.shape == (1, 8, 4, 3) and mask.shape == (1, 64, 64) and not mask.any()
    _, mask = node.execute(image=toys.put_input(tmp_path / "b.png")).args
    assert mask.shape == (1, 4, 8) and np.allclose(mask, 0.8)
    load = {"class_type": "LoadImage", "inputs": {"image": "b.png"}}
    saved = {"images": ["1", 0], "filename_prefix": "b"}
    show = {"class_type": "SaveImage", "inputs": saved}
    (file,) = toys.run({"1": load, "2": show}).outputs
    assert file.parent == toys.base / "output" and file.exists()


def test_video_round_trip_with_sound_and_copy(tmp_path):
    sound = {"waveform": torch.zeros(1, 2, 44100), "sample_rate": 44100}
    parts = Types.VideoComponents(torch.rand(8, 32, 48, 3), 24, sound)
    InputImpl.VideoFromComponents(parts).save_to(str(tmp_path / "a.mp4"), metadata={"k": "v"})
    video = InputImpl.VideoFromFile(str(tmp_path / "a.mp4"))
    assert video.get_dimensions() == (48, 32) and abs(video.get_duration() - 1 / 3) < 0.05
    video.save_to(str(tmp_path / "b.mp4"))
    again = InputImpl.VideoFromFile(str(tmp_path / "b.mp4")).get_components()
    assert torch.equal(again.images, video.get_components().images)
    assert again.audio["waveform"].shape[1] == 2 and again.audio["sample_rate"] == 44100
    with pytest.raises(ValueError):
        video.save_to(str(tmp_path / "c.webm"), format="webm")
