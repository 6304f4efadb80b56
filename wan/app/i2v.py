"""The app wan2-1-i2v: one image becomes a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..decode.vae import decode_frames
from ..encode.condition import condition_on_image, video_size
from ..encode.picture import read_picture
from ..encode.prompt import encode_prompts
from ..geometry import parse_size, round_frames
from ..payloads import VideoLatents, WanModel
from ..progress import Reporter
from ..sample.denoise import SampleSettings, sample_video
from ..save.video import check_writable, to_uint8, write_video
from .result import RunResult


def run_i2v(values: Mapping[str, Any], model: WanModel, out: Path, reporter: Reporter) -> RunResult:
    """Run the app.

    Args:
        values: all parameters, as `wan.params.validate` returns them.
        model: I2V or FLF2V weights.
        out: the .mp4 to write.
        reporter: progress, cancellation and notes.
    Returns:
        Where the video is and what it is like.
    Raises:
        WanError: with what, why and fix; before anything heavy starts where it can be known.
    """
    check_writable(out)
    picture = read_picture(values["input_image"], "input_image")
    width, height = video_size(picture, *parse_size(values["size"]))
    num_frames = round_frames(values["num_frames"])
    if num_frames != values["num_frames"]:
        reporter.note(f"num_frames {values['num_frames']} gives {num_frames} (4n+1)")
    settings = SampleSettings(
        steps=values["num_inference_steps"],
        guide_scale=values["guidance_scale"],
        solver=values["sample_solver"],
        shift=values["shift"],
        seed=values["seed"],
    )
    negative = None if settings.guide_scale == 1 else values["negative_prompt"]
    text = encode_prompts(model, values["prompt"], negative, reporter)
    condition = condition_on_image(model, picture, width, height, num_frames, reporter)
    video = sample_video(model, text, condition, settings, reporter)
    written = write_video(out, _pixels(model, video, reporter), values["fps"])
    return RunResult(out, width, height, written, values["fps"], video.seed, model.is_tiny)


def _pixels(model: WanModel, video: VideoLatents, reporter: Reporter) -> Iterator[Tensor]:
    for _, frames in decode_frames(model, video, reporter):
        yield to_uint8(frames)
