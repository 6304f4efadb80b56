"""Widgets made from the parameter table, so that ranges and texts exist once."""

from comfy_api.latest import io

from ..wan.params import Param
from .compat import make_input

MAX_SEED = 2**64 - 1


def from_param(param: Param, **changes):
    """The widget of an app's parameter.

    Args:
        changes: arguments that differ on the node, for example `step` or `multiline`.
    """
    arguments = {"default": param.default, "tooltip": param.description, **changes}
    if param.options:
        return make_input(io.Combo.Input, param.name, options=list(param.options), **arguments)
    if param.kind == "boolean":
        return make_input(io.Boolean.Input, param.name, **arguments)
    if param.kind == "string":
        return make_input(io.String.Input, param.name, **arguments)
    arguments = {"min": param.minimum, "max": param.maximum, **arguments}
    if param.kind == "integer":
        return make_input(io.Int.Input, param.name, **arguments)
    return make_input(io.Float.Input, param.name, **{"step": 0.1, **arguments})


def seed_input():
    """A seed without -1: ComfyUI draws a new one after each run by itself."""
    return make_input(
        io.Int.Input,
        "seed",
        default=0,
        min=0,
        max=MAX_SEED,
        control_after_generate=True,
        tooltip="The same seed and inputs give the same video.",
    )


def clip_vision_input():
    """A socket for pictures that ComfyUI has encoded."""
    return io.ClipVisionOutput.Input(
        "clip_vision_output",
        optional=True,
        tooltip="From CLIP Vision Encode with clip_vision_h, for who has it loaded already. Left "
        "out: the model's own image encoder sees the picture.",
    )


def clip_features(output):
    """What a CLIP_VISION_OUTPUT holds for Wan, or None."""
    return None if output is None else output.penultimate_hidden_states
