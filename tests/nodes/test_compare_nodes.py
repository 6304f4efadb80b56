"""Comparing and trying out values, on the stand-in and on every real ComfyUI that is found."""

import copy
from pathlib import Path

import av
import numpy as np
import pytest
from shipped_graphs import random_weights

ROOT = Path(__file__).resolve().parents[2]


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture
def prompt(host):
    """A short graph with random weights."""
    prompt = random_weights("wan_i2v")
    by_class = {n["class_type"]: n["inputs"] for n in prompt.values()}
    by_class["LoadImage"]["image"] = host.put_input(ROOT / "assets" / "sample.png")
    by_class["WanLocalImageToVideo"].update(width=64, height=64, num_frames=5)
    by_class["WanLocalSampler"]["num_inference_steps"] = 2
    return prompt


def key(prompt, kind):
    return next(n for n, found in prompt.items() if found["class_type"] == kind)


def frames(path):
    with av.open(str(path)) as video:
        return np.stack([f.to_ndarray(format="rgb24") for f in video.decode(video=0)])


def save(prompt, link):
    inputs = prompt[key(prompt, "WanLocalSaveVideo")]["inputs"]
    inputs |= {"images": link, "format": "mkv FFV1 lossless"}


@pytest.mark.parametrize(
    ("target", "values"),
    [
        (("WanLocalSampler", "shift"), "3, 5, 8"),
        (("WanLocalSampler", "sample_solver"), "unipc, dpm++"),
        (("WanLocalPromptEncode", "prompt"), "red circle moves left fast\nred circle grows fast"),
        (("WanLocalSampler", "num_inference_steps"), "1 to 2"),
    ],
    ids=lambda given: given if isinstance(given, str) else given[1],
)
def test_a_grid_shows_what_each_value_gives(host, prompt, target, values):
    kind, name = target
    decoded = [key(prompt, "WanLocalDecode"), 0]
    alone = []
    for value in values.split("\n" if "\n" in values else ", "):
        one = copy.deepcopy(prompt)
        given = {"1 to 2": [1, 2]}.get(value, [value])
        for single in given:
            typed = float(single) if name == "shift" else single
            one[key(one, kind)]["inputs"][name] = typed
            save(one, decoded)
            alone.append(frames(host.run(one).outputs[0]))
    prompt["90"] = node("WanLocalValues", values=values)
    prompt["91"] = node("WanLocalGrid", frames=decoded, name="", columns=len(alone))
    prompt[key(prompt, kind)]["inputs"][name] = ["90", 0]
    save(prompt, ["91", 0])
    sheet = frames(host.run(prompt).outputs[0])
    assert np.array_equal(sheet, np.concatenate(alone, axis=2))
    assert not np.array_equal(alone[0], alone[1])


def test_two_videos_are_compared(host, prompt):
    decoded = [key(prompt, "WanLocalDecode"), 0]
    other = copy.deepcopy(prompt[key(prompt, "WanLocalSampler")])
    other["inputs"]["seed"] = 7
    prompt["80"] = other
    again = copy.deepcopy(prompt[key(prompt, "WanLocalDecode")])
    again["inputs"]["latents"] = ["80", 0]
    prompt["81"] = again
    layout = {"layout": "side by side", "position": 0.5, "first_label": "a", "second_label": "b"}
    prompt["82"] = node("WanLocalCompare", first=decoded, second=["81", 0], **layout)
    save(prompt, ["82", 0])
    made = frames(host.run(prompt).outputs[0])
    assert made.shape[2] % 2 == 0
    half = made.shape[2] // 2
    assert not np.array_equal(made[:, :20, :half], made[:, :20, half:])
