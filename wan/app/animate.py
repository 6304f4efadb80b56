"""The app wan-2-2-animate-v2v: a character moves like the person in a video, or takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..animate import AnimateSettings, animate
from ..animate.inputs import Figure, condition_figure, video_size
from ..encode.prompt import describe_text_memory, encode_prompts
from ..load.companions import require
from ..media.frames import to_pixels
from ..media.picture import read_picture
from ..media.resize import resize_by_area
from ..memory import vae_decode_bytes
from ..params import ANIMATE_APP
from ..payloads import AnimateCondition, Mode, Relighting, Scene, WanModel, expect_animate
from ..preprocess.mask.grabcut import GrabCut
from ..preprocess.mask.sam2 import Sam2
from ..preprocess.mask.segment import segment_person
from ..preprocess.mask.shape import background_video, block_mask, dilate_mask, match_mask
from ..preprocess.pose.measure import FRAMES, measure_poses, measure_poses_spread
from ..preprocess.pose.onnx import PoseModels
from ..preprocess.pose.track import PoseTrack, describe_misses
from ..preprocess.retarget.fit import Editing, fit_pose
from ..preprocess.retarget.kontext import Kontext
from ..preprocess.video import DrivingVideo, read_video
from ..progress import Reporter
from ..sample.guidance import Guidance
from ..sample.settings import AS_LOADED, SampleOptions, SampleSettings
from ..save.metadata import run_tags
from ..save.video import check_writable, write_video
from .result import RunResult
from .surroundings import Surroundings

# Parameters that only one of the modes has a use for.
_ONLY_IN = {
    Mode.ANIMATION: ("retarget_flag", "use_flux"),
    Mode.REPLACEMENT: (
        "mask_iterations",
        "mask_kernel_size",
        "mask_w_subdivisions",
        "mask_h_subdivisions",
    ),
}
_NO_LIGHT = (
    "No relighting LoRA was found: the character keeps the light of its own picture. "
    "WanAnimate_relight_lora_fp16.safetensors in models/loras would fit it to the scene."
)


def run_animate(
    values: Mapping[str, Any],
    model: WanModel,
    out: Path,
    reporter: Reporter,
    around: Surroundings,
) -> RunResult:
    """Run the app.

    Args:
        values: all parameters, as `wan.params.validate` returns them.
        model: Animate weights.
        out: the video to write; its suffix decides the format.
        reporter: progress, cancellation and notes.
        around: gives detector, pose model and, where they are, SAM2, relighting LoRA and FLUX.
    Returns:
        Where the video is and what it is like.
    Raises:
        WanError: with what, why and fix; before anything heavy starts where it can be known.
    """
    check_writable(out)
    expect_animate(model)
    require(around.companions, _needed(values))
    settings = animate_settings(values, around.linears)
    _tell_ignored(values, reporter)
    inputs = prepare(values, around, reporter)
    negative = values["n_prompt"] if settings.sample.guidance.is_guided else None
    reporter.note(describe_text_memory(model))
    clip, size = values["clip_len"], model.decode_dtype.itemsize
    reporter.note(model.vae.describe_memory(vae_decode_bytes(*inputs.size, 0, clip, size)))
    text = encode_prompts(model, values["input_prompt"], negative, reporter)
    condition = _condition(model, inputs, around, reporter)
    made = animate(model, text, condition, settings, reporter, around.places)
    fps, audio = inputs.driving.fps, inputs.driving.audio
    tags = run_tags(ANIMATE_APP, values, made.seed) if around.embeds_metadata else None
    written = write_video(out, made.frames(), fps, audio=audio, tags=tags, reporter=reporter)
    made.close()
    return RunResult(out, made.width, made.height, written, float(fps), made.seed, model.notice)


def animate_settings(values: Mapping[str, Any], linears: str = AS_LOADED) -> AnimateSettings:
    """The parameters that concern sampling, in the library's terms."""
    return AnimateSettings(
        sample=SampleSettings(
            steps=values["sampling_steps"],
            guidance=Guidance(values["guide_scale"], cfg_star=False),
            solver=values["sample_solver"],
            shift=values["shift"],
            seed=values["seed"],
            options=SampleOptions(linears=linears),
        ),
        clip_len=values["clip_len"],
        carry=values["refert_num"],
    )


@dataclass(frozen=True)
class Inputs:
    """What preprocessing makes of the driving video and the picture."""

    driving: DrivingVideo
    reference: Tensor
    """[h, w, 3] uint8, as it was read."""
    pose: PoseTrack
    """Of the person in the driving video, perhaps fitted to the character."""
    size: tuple[int, int]
    """Width and height of the video to be made, pixels."""
    mask: Tensor | None = None
    """[T, H, W] uint8, 1 = the person to replace, grown and blocked; for replacement."""


def prepare(values: Mapping[str, Any], around: Surroundings, reporter: Reporter) -> Inputs:
    """Read, measure, and fit the motion to the character or cut the person out of the scene.

    Args:
        values, around, reporter: as `run_animate`.
    Source: Wan2.2 preprocess/process_pipepline.py.
    """
    area = values["resolution_width"] * values["resolution_height"]
    mode = Mode(values["mode"])
    picture = read_picture(values["reference_image"], "reference_image")
    reference = torch.from_numpy(to_pixels(picture))
    resize = (lambda frame: resize_by_area(frame, area)) if mode is Mode.REPLACEMENT else None
    driving = read_video(values["driving_video"], values["fps"], resize, reporter=reporter)
    models = _open_pose_models(around)
    pose = _measure(driving, models, around, reporter)
    size = video_size(mode, reference, driving, area)
    if mode is Mode.REPLACEMENT:
        mask = _cut_out(driving, pose, values, around, reporter)
        return Inputs(driving, reference, pose, size, mask)
    if values["retarget_flag"]:
        frames, editing = driving.frames.numpy(), _editing(values, around)
        pose = fit_pose(frames, pose, reference, area, models, reporter, editing).pose
    return Inputs(driving, reference, pose, size)


def _condition(
    model: WanModel, inputs: Inputs, around: Surroundings, reporter: Reporter
) -> AnimateCondition:
    scene = light = None
    if inputs.mask is not None:
        scene = Scene(background_video(inputs.driving.frames, inputs.mask), inputs.mask)
        light = around.companions.relighting and Relighting(around.companions.relighting)
        if light is None:
            reporter.note(_NO_LIGHT)
    figure = Figure(inputs.reference, inputs.pose)
    size = inputs.size
    return condition_figure(model, inputs.driving, figure, size, reporter, scene, light)


def _measure(
    driving: DrivingVideo, models: PoseModels, around: Surroundings, reporter: Reporter
) -> PoseTrack:
    frames, both = driving.frames.numpy(), (models.detector, models.pose)
    if around.spread and len(frames) > FRAMES:
        device = around.placement.device.type
        pose = measure_poses_spread(frames, *both, reporter, around.spread, device)
    else:
        pose = measure_poses(frames, *both, reporter=reporter)
    missed = describe_misses({"person": pose.misses}, len(pose))
    if missed:
        reporter.note(missed)
    return pose


def _cut_out(
    driving: DrivingVideo,
    pose: PoseTrack,
    values: Mapping[str, Any],
    around: Surroundings,
    reporter: Reporter,
) -> Tensor:
    sam2 = around.companions.sam2
    segmenter = Sam2(sam2, around.placement) if sam2 else GrabCut()
    found = segment_person(driving.frames, pose, segmenter, reporter).masks
    kernel, iterations = values["mask_kernel_size"], values["mask_iterations"]
    grown = dilate_mask(found, kernel, iterations, reporter)
    columns, rows = values["mask_w_subdivisions"], values["mask_h_subdivisions"]
    return match_mask(block_mask(grown, columns, rows, reporter), driving.frames)


def _open_pose_models(around: Surroundings) -> PoseModels:
    found = around.companions
    assert found.detector and found.pose  # `require` has seen to it
    return PoseModels.open(found.detector, found.pose, str(around.placement.device))


def _editing(values: Mapping[str, Any], around: Surroundings) -> Editing | None:
    if not values["use_flux"]:
        return None
    assert around.companions.kontext  # `require` has seen to it
    return Editing(pipeline=Kontext(around.companions.kontext, around.placement))


def _needed(values: Mapping[str, Any]) -> list[str]:
    """Which companions a run cannot do without."""
    is_edited = values["use_flux"] and values["mode"] == Mode.ANIMATION.value
    return ["detector", "pose", *(["kontext"] if is_edited else [])]


def _tell_ignored(values: Mapping[str, Any], reporter: Reporter) -> None:
    mode = Mode(values["mode"])
    for other, names in _ONLY_IN.items():
        given = [name for name in names if values[name] != ANIMATE_APP[name].default]
        if other is not mode and given:
            reporter.note(f"{', '.join(given)} have no effect in {mode.value} mode.")
