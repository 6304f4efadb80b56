"""Wan App Input and Wan App Output on the stand-in and on every real ComfyUI that is found."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from wan_local.nodes.service.app_params import AppInput, as_param, default_value
from wan_local.wan.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def node(kind, **given):
    return {"class_type": kind, "inputs": given}


def app_input(name, type="text", default="", **given):
    texts = {"minimum": "", "maximum": "", "choices": "", "description": ""}
    return node("WanLocalAppInput", name=name, type=type, default=default, **{**texts, **given})


@pytest.fixture
def picture(host, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "app.png")
    return pixels, host.put_input(tmp_path / "app.png")


def test_a_picture_passes_through_both_and_is_written_as_png(host, picture):
    pixels, name = picture
    prompt = {
        "1": node("LoadImage", image=name),
        "2": app_input("picture", "image", value=["1", 0]),
        "3": node("WanLocalAppOutput", name="result", filename_prefix="apps/p", value=["2", 0]),
    }
    result = host.run(prompt)
    assert result.status == "success", result.error
    (path,) = result.outputs
    assert path.parent.name == "apps" and (np.asarray(Image.open(path)) == pixels).all()


def test_defaults_fit_widgets_of_every_type(host, picture):
    """On older hosts too: a factor, a number of frames and a choice of the list."""
    prompt = {
        "1": node("LoadImage", image=picture[1]),
        "2": app_input("factor", "number", "0.5"),
        "3": node("WanLocalLanczosResize", frames=["1", 0], factor=["2", 0]),
        "4": app_input("rate", "integer", "12"),
        "5": app_input("quality", "choice", "low", choices="low, high"),
        "6": app_input("place", "text", "apps/v"),
        "7": node(
            "WanLocalSaveVideo",
            images=["3", 0],
            fps=["4", 0],
            filename_prefix=["6", 0],
            format="mp4 H.264",
            quality=["5", 0],
            preset="medium",
            crf=-1,
            odd_size="refuse",
        ),
        "8": node("WanLocalAppOutput", name="video", filename_prefix="apps/o", value=["7", 0]),
    }
    result = host.run(prompt)
    assert result.status == "success", result.error
    assert [path.stem[0] for path in sorted(result.outputs)] == ["o", "v"]
    for path in result.outputs:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, float(stream.average_rate)) == (32, 24, 12)


def test_text_and_missing_files_are_refused_in_words(host):
    save = {"name": "result", "filename_prefix": "apps/x"}
    prompt = {
        "1": app_input("words", "text", "hello"),
        "2": node("WanLocalAppOutput", value=["1", 0], **save),
    }
    result = host.run(prompt)
    assert result.status == "error" and "type str" in result.error
    result = host.run(
        {"1": app_input("clip", "video"), "2": node("WanLocalAppOutput", value=["1", 0], **save)}
    )
    assert result.status == "error" and "Connect a node that loads the video" in result.error


@pytest.mark.parametrize(
    ("given", "kind", "default", "required"),
    [
        (AppInput("a"), "string", "", False),
        (AppInput("a", "text", "x"), "string", "x", False),
        (AppInput("a", "integer", "7", "1", "9"), "integer", 7, False),
        (AppInput("a", "integer"), "integer", None, True),
        (AppInput("a", "number", " 2.5 "), "number", 2.5, False),
        (AppInput("a", "boolean", "true"), "boolean", True, False),
        (AppInput("a", "choice", "b", choices="a, b"), "string", "b", False),
        (AppInput("a", "image"), "file", None, True),
    ],
)
def test_widgets_become_a_parameter(given, kind, default, required):
    param = as_param(given)
    assert (param.kind, param.default, param.required) == (kind, default, required)
    if default is not None:
        assert default_value(given) == default


@pytest.mark.parametrize(
    "given",
    [
        AppInput("two words"),
        AppInput("a", "integer", "10", "1", "9"),
        AppInput("a", "integer", "2.5"),
        AppInput("a", "number", "1", "low"),
        AppInput("a", "choice"),
        AppInput("a", "choice", "c", choices="a, b"),
        AppInput("a", "boolean", "perhaps"),
    ],
)
def test_widgets_that_do_not_fit_are_told(given):
    with pytest.raises(InputError) as told:
        as_param(given)
    assert told.value.fix


def test_both_are_listed_for_the_manager():
    listed = json.loads((ROOT / "node_list.json").read_text("utf8"))
    assert {"WanLocalAppInput", "WanLocalAppOutput"} <= listed.keys()
