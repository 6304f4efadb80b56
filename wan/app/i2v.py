"""The app wan2-1-i2v: one image, and perhaps an end frame, becomes a video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..decode.vae import decode_frames
from ..encode.condition import EndFrame, area_advice, condition_on_image, video_size
from ..encode.prompt import describe_text_memory, encode_prompts
from ..geometry import parse_size, round_frames
from ..load.fetch import downloads_allowed, resolve_lora
from ..load.lora.apply import apply_lora
from ..media.picture import read_picture
from ..memory import vae_decode_bytes
from ..params import I2V_APP
from ..payloads import ImageCondition, WanModel
from ..progress import Reporter
from ..sample.cache import TeaCache
from ..sample.guidance import Guidance
from ..sample.rope import Riflex
from ..sample.settings import AS_LOADED, SampleOptions, SampleSettings
from ..sample.video import sample_video
from ..save.metadata import run_tags
from ..save.video import check_writable, write_video
from .result import RunResult
from .surroundings import Surroundings
from .upsampling import prepare_upsampling, save_video


def run_i2v(
    values: Mapping[str, Any],
    model: WanModel,
    out: Path,
    reporter: Reporter,
    around: Surroundings,
) -> RunResult:
    """Run the app.

    Args:
        values: all parameters, as `wan.params.validate` returns them.
        model: I2V or FLF2V weights.
        out: the video to write; its suffix decides the format.
        reporter: progress, cancellation and notes.
        around: gives the folders of LoRAs and of RIFE.
    Returns:
        Where the video is and what it is like.
    Raises:
        WanError: with what, why and fix; before anything heavy starts where it can be known.
    """
    check_writable(out)
    settings = sample_settings(values, around.linears)
    picture, end = _pictures(values)
    upsampling = prepare_upsampling(values, around, reporter)
    if values["lora_file"]:
        allowed = downloads_allowed()
        lora = resolve_lora(values["lora_file"], around.lora_folders, allowed, reporter=reporter)
        model = apply_lora(model, lora, values["lora_multiplier"], reporter)
    size = video_size(picture, *parse_size(values["size"]))
    reporter.note(describe_text_memory(model))
    tile, frames = values["vae_tile_size"], values["num_frames"]
    decoding = vae_decode_bytes(*size, tile, frames, model.decode_dtype.itemsize)
    reporter.note(model.vae.describe_memory(decoding))
    negative = values["negative_prompt"] if settings.guidance.is_guided else None
    text = encode_prompts(model, values["prompt"], negative, reporter)
    condition = _condition(values, model, picture, end, size, reporter)
    video = sample_video(model, text, condition, settings, reporter)
    decoded = decode_frames(model, video, reporter, tile_size=values["vae_tile_size"])
    tags = run_tags(I2V_APP, values, video.seed) if around.embeds_metadata else None

    def write(batches: Iterable[Tensor], fps: int) -> int:
        return write_video(out, batches, fps, tags=tags, reporter=reporter)

    shape = (video.num_frames, condition.height, condition.width)
    written = save_video(out, decoded, shape, values["fps"], upsampling, write, reporter)
    size = upsampling.size(condition.width, condition.height)
    fps = values["fps"] * upsampling.frame_factor
    return RunResult(out, *size, written, fps, video.seed, model.notice)


def sample_settings(values: Mapping[str, Any], linears: str = AS_LOADED) -> SampleSettings:
    """The parameters that concern sampling, in the library's terms."""
    tea_cache = TeaCache(values["tea_cache"], values["tea_cache_start_step_perc"])
    return SampleSettings(
        steps=values["num_inference_steps"],
        guidance=Guidance(
            scale=values["guidance_scale"],
            cfg_star=values["cfg_star_switch"],
            cfg_zero_step=values["cfg_zero_step"],
        ),
        solver=values["sample_solver"],
        shift=values["shift"],
        seed=values["seed"],
        cache=tea_cache if tea_cache.multiplier else None,
        options=SampleOptions(
            riflex=Riflex() if values["enable_RIFLEx"] else None,
            joint_pass=values["joint_pass"],
            attention=values["attention"],
            linears=linears,
        ),
    )


def _pictures(values: Mapping[str, Any]) -> tuple[Tensor, EndFrame | None]:
    picture = read_picture(values["input_image"], "input_image")
    if not values["end_frame"]:
        return picture, None
    # The page knows true and false only: true leaves the decision to the weights.
    choice = "auto" if values["add_frames_for_end_image"] else "off"
    return picture, EndFrame(read_picture(values["end_frame"], "end_frame"), choice)


def _condition(
    values: Mapping[str, Any],
    model: WanModel,
    picture: Tensor,
    end: EndFrame | None,
    size: tuple[int, int],
    reporter: Reporter,
) -> ImageCondition:
    width, height = size
    advice = area_advice(model, width, height)
    if advice:
        reporter.note(advice)
    num_frames = round_frames(values["num_frames"])
    if num_frames != values["num_frames"]:
        reporter.note(f"num_frames {values['num_frames']} gives {num_frames} (4n+1)")
    return condition_on_image(
        model, picture, width, height, num_frames, reporter, end, values["vae_tile_size"]
    )
