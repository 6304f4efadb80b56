"""Fills the graphs that come with the pack from the parameters of an app."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ...wan.app.upsampling import SPATIAL, TEMPORAL
from ...wan.geometry import parse_size
from ...wan.params import ANIMATE_APP, I2V_APP
from ...wan.payloads import Mode

API = Path(__file__).resolve().parents[2] / "workflows" / "api"
SAVE = "WanLocalSaveVideo"
GRAPHS = {
    I2V_APP.name: ("wan_i2v",),
    ANIMATE_APP.name: tuple(f"wan_{mode.value}" for mode in Mode),
}
"""The shipped graphs behind each app."""


@dataclass(frozen=True)
class Files:
    """Which of the files that are there a graph shall use, as the nodes' drop-downs name them."""

    model: Mapping[str, str]
    """The widgets of Wan Model Loader."""
    lora: str = ""
    rife: str = ""
    detector: str = ""
    pose: str = ""
    segmenter: str = ""
    flux: str = ""


@dataclass
class Filled:
    """A graph in the format of POST /prompt that is ready to be queued."""

    graph: dict[str, dict]
    outputs: dict[str, str]
    """Node that writes the file, by name of the app's output."""
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    """The parameter that decided an input, by node and input."""

    def title(self, node: str) -> str:
        """What users call a node."""
        entry = self.graph.get(node, {})
        return entry.get("_meta", {}).get("title") or entry.get("class_type", node)


class Editor:
    """Changes one graph, and remembers which parameter is behind which input."""

    def __init__(self, graph: dict[str, dict]) -> None:
        self.filled = Filled(graph, {})

    @property
    def graph(self) -> dict[str, dict]:
        return self.filled.graph

    def find(self, kind: str, title: str = "") -> str:
        """The one node of a class, or that of several with a title."""
        found = (k for k, n in self.graph.items() if n["class_type"] == kind)
        return next(k for k in found if not title or self.filled.title(k) == title)

    def set(self, node: str, name: str, value: Any, parameter: str = "") -> None:
        """Give an input a value or a link."""
        self.graph[node]["inputs"][name] = value
        if parameter:
            self.filled.origins[node, name] = parameter

    def fill(self, node: str, values: Mapping[str, Any], **parameters: str) -> None:
        """Give inputs the values of parameters.

        Args:
            parameters: parameter name by input name.
        """
        for name, parameter in parameters.items():
            self.set(node, name, values[parameter], parameter)

    def add(self, kind: str, title: str, **inputs: Any) -> str:
        """A new node; returns its id."""
        numbers = [int(key) for key in self.graph if key.isdecimal()]
        node = str(max(numbers, default=0) + 1)
        self.graph[node] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
        return node

    def redirect(self, old: list, new: list, but: str) -> None:
        """Let everything that hangs on one output hang on another, except the node `but`."""
        for key, node in self.graph.items():
            for name, value in node["inputs"].items():
                if value == old and key != but:
                    node["inputs"][name] = list(new)


@cache
def _text(name: str) -> str:
    return (API / f"{name}.json").read_text("utf-8")


def shipped(name: str) -> dict[str, dict]:
    """A fresh copy of a graph that comes with the pack."""
    return json.loads(_text(name))


def graph_name(app: str, values: Mapping[str, Any]) -> str:
    """Which of the shipped graphs does what is asked."""
    if app == I2V_APP.name:
        return GRAPHS[app][0]
    return f"wan_{Mode(values['mode']).value}"


def fill(app: str, values: Mapping[str, Any], files: Files, prefix: str) -> Filled:
    """The shipped graph of an app with its parameters.

    Args:
        app: name without the publisher.
        values: every parameter; files as names in ComfyUI's input folder; the seed is drawn.
        prefix: of the result, below ComfyUI's output folder.
    """
    editor = Editor(shipped(graph_name(app, values)))
    loader = editor.find("WanLocalModelLoader")
    editor.graph[loader]["inputs"].update(files.model)
    save = editor.find(SAVE)
    editor.set(save, "filename_prefix", prefix)
    if app == I2V_APP.name:
        _fill_i2v(editor, values, files)
        editor.filled.outputs[I2V_APP.output] = save
    else:
        _fill_animate(editor, values, files)
        editor.filled.outputs[ANIMATE_APP.output] = save
    return editor.filled


def _same(*names: str) -> dict[str, str]:
    """Inputs that are called like their parameters."""
    return {name: name for name in names}


def _fill_i2v(editor: Editor, values: Mapping[str, Any], files: Files) -> None:
    editor.fill(editor.find("LoadImage"), values, image="input_image")
    text = editor.find("WanLocalPromptEncode")
    editor.fill(text, values, **_same("prompt", "negative_prompt"))
    _fill_frames(editor, values)
    _fill_sampler(editor, values)
    editor.fill(editor.find("WanLocalDecode"), values, **_same("vae_tile_size"))
    if values["lora_file"]:
        loader = editor.find("WanLocalModelLoader")
        lora = editor.add("WanLocalLoRA", "Wan LoRA", model=[loader, 0])
        editor.set(lora, "lora", files.lora, "lora_file")
        editor.fill(lora, values, strength="lora_multiplier")
        editor.redirect([loader, 0], [lora, 0], but=lora)
    _fill_end(editor, values, files)


def _fill_frames(editor: Editor, values: Mapping[str, Any]) -> None:
    frames = editor.find("WanLocalImageToVideo")
    width, height = parse_size(values["size"])
    editor.set(frames, "width", width, "size")
    editor.set(frames, "height", height, "size")
    editor.fill(frames, values, **_same("num_frames", "vae_tile_size"))
    # The page knows true and false only: true leaves the decision to the weights.
    choice = "auto" if values["add_frames_for_end_image"] else "off"
    editor.set(frames, "add_frames_for_end_image", choice, "add_frames_for_end_image")
    if values["end_frame"]:
        end = editor.add("LoadImage", "End frame")
        editor.fill(end, values, image="end_frame")
        editor.set(frames, "end_frame", [end, 0])


def _fill_sampler(editor: Editor, values: Mapping[str, Any]) -> None:
    sampler = editor.find("WanLocalSampler")
    plain = ("seed", "num_inference_steps", "guidance_scale", "sample_solver", "shift")
    editor.fill(sampler, values, **_same(*plain))
    if values["tea_cache"]:
        cache_node = editor.add("WanLocalTeaCache", "Wan TeaCache", coefficients="auto")
        editor.fill(cache_node, values, **_same("tea_cache", "tea_cache_start_step_perc"))
        editor.set(sampler, "cache", [cache_node, 0])
    guidance = editor.add("WanLocalGuidanceOptions", "Wan Guidance Options", zero_init_steps=0)
    editor.fill(guidance, values, **_same("cfg_star_switch", "cfg_zero_step"))
    editor.set(sampler, "guidance", [guidance, 0])
    options = editor.add(
        "WanLocalSamplingOptions", "Wan Sampling Options", riflex_k=0, riflex_force=False
    )
    editor.fill(options, values, **_same("enable_RIFLEx", "joint_pass", "attention"))
    editor.set(sampler, "options", [options, 0])


def _fill_end(editor: Editor, values: Mapping[str, Any], files: Files) -> None:
    """More frames, then more pixels, then the file."""
    save, frames = editor.find(SAVE), [editor.find("WanLocalDecode"), 0]
    editor.set(save, "fps", float(values["fps"]), "fps")
    factor = TEMPORAL[values["temporal_upsampling"]]
    if factor > 1:
        rife = editor.add("WanLocalRifeLoader", "Wan RIFE Loader", rife_name=files.rife)
        between = editor.add(
            "WanLocalRifeInterpolate",
            "Wan RIFE Interpolate",
            rife=[rife, 0],
            frames=frames,
            motion_scale="auto",
        )
        editor.set(between, "factor", factor, "temporal_upsampling")
        editor.set(between, "fps", float(values["fps"]), "fps")
        editor.set(save, "fps", [between, 1])
        frames = [between, 0]
    scale = SPATIAL[values["spatial_upsampling"]]
    if scale != 1:
        large = editor.add("WanLocalLanczosResize", "Wan Lanczos Resize", frames=frames)
        editor.set(large, "factor", scale, "spatial_upsampling")
        frames = [large, 0]
    editor.set(save, "images", frames)


def _fill_animate(editor: Editor, values: Mapping[str, Any], files: Files) -> None:
    mode = Mode(values["mode"])
    editor.fill(editor.find("LoadImage"), values, image="reference_image")
    editor.fill(editor.find("LoadVideo"), values, file="driving_video")
    text = editor.find("WanLocalPromptEncode")
    editor.fill(text, values, prompt="input_prompt", negative_prompt="n_prompt")
    read = editor.find("WanLocalReadDrivingVideo")
    area = {"width": "resolution_width", "height": "resolution_height"}
    editor.fill(read, values, fps="fps", **area)
    models = editor.find("WanLocalPoseModelLoader")
    editor.set(models, "detector", files.detector)
    editor.set(models, "pose", files.pose)
    animate = editor.find("WanLocalAnimate")
    editor.fill(animate, values, **_same("mode", "resolution_width", "resolution_height"))
    sampler = editor.find("WanLocalAnimateSampler")
    plain = ("seed", "sampling_steps", "guide_scale", "sample_solver", "shift", "clip_len")
    editor.fill(sampler, values, **_same(*plain, "refert_num", "offload_model"))
    if mode is Mode.REPLACEMENT:
        editor.set(editor.find("WanLocalSegmentPerson"), "method", files.segmenter)
        mask = ("mask_kernel_size", "mask_iterations", "mask_w_subdivisions", "mask_h_subdivisions")
        editor.fill(editor.find("WanLocalMaskDilate"), values, **_same(*mask))
    elif values["retarget_flag"]:
        _add_retarget(editor, values, files)


def _add_retarget(editor: Editor, values: Mapping[str, Any], files: Files) -> None:
    retarget = editor.add(
        "WanLocalPoseRetarget",
        "Wan Pose Retarget",
        driving=[editor.find("WanLocalReadDrivingVideo"), 0],
        pose=[editor.find("WanLocalPoseExtract"), 0],
        pose_model=[editor.find("WanLocalPoseModelLoader"), 0],
        reference_image=[editor.find("LoadImage"), 0],
        ratio_limit=0.0,
        flux_model=files.flux,
    )
    editor.fill(retarget, values, **_same("resolution_width", "resolution_height", "use_flux"))
    editor.set(editor.find("WanLocalAnimate"), "pose", [retarget, 0], "retarget_flag")
