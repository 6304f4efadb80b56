"""The shipped graphs as POST /prompt takes them, and what tests make of them."""

import json
from pathlib import Path

API = Path(__file__).resolve().parents[1] / "workflows" / "api"
_LOADER = "WanLocalModelLoader"


def api(name):
    """A shipped graph by its name."""
    return json.loads((API / f"{name}.json").read_text("utf8"))


def random_weights(name):
    """The graph `{name}_mini` with random weights, and LoadImage where it continues a picture.

    For what needs no meaning: other tests look at sizes, order and errors, and put files of their
    own in.
    """
    prompt = api(f"{name}_mini")
    for node in prompt.values():
        if node["class_type"] == _LOADER:
            node["inputs"]["model"] = (
                node["inputs"]["model"]
                .replace("trained miniature", "random weights")
                .replace("mini", "tiny")
            )
    if name == "wan_i2v":
        prompt["1"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
        condition = next(n for n in prompt.values() if n["class_type"] == "WanLocalImageToVideo")
        condition["inputs"]["image"] = ["1", 0]
        sampler = next(n for n in prompt.values() if n["class_type"] == "WanLocalSampler")
        sampler["inputs"].update(guidance_scale=5.0, num_inference_steps=8)
    return prompt
