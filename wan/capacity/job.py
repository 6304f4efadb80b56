"""What one job of an app asks for: sizes, clips and steps, from its parameters alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..app.animate import animate_settings
from ..app.i2v import sample_settings
from ..app.upsampling import SPATIAL, TEMPORAL
from ..clips import plan_clips
from ..errors import InputError
from ..geometry import LatentShape, fit_area, latent_shape, parse_size, round_frames
from ..media.picture import read_picture
from ..media.video import probe_video
from ..params import APPS, I2V_APP, App, validate
from ..payloads import Mode, Variant
from ..preprocess.video import plan_frames
from ..sample.settings import SampleSettings
from ..upsample.rife.interpolate import interpolated_count

USUAL_SECONDS, USUAL_FPS = 10.0, 30
"""Of a driving video that nobody described."""
_PLACEHOLDER = "not given"


@dataclass(frozen=True)
class JobPlan:
    """One job."""

    app: str
    variant: Variant
    width: int
    """Of the sampled video, pixels."""
    height: int
    """Likewise."""
    frames: int
    """Of the sampled video."""
    clips: int
    """How often the whole denoising runs."""
    clip_frames: int
    """Frames of each."""
    shape: LatentShape
    """Of each clip's latents."""
    settings: SampleSettings
    computed: int
    """Steps that run the model; the others repeat."""
    tile_size: int
    """Of the VAE, pixels; 0 = whole pictures."""
    frame_factor: int = 1
    size_factor: float = 1.0
    driving_frames: int = 0
    """Frames of the driving video in which poses are measured."""
    mode: Mode | None = None
    edits: int = 0
    """Pictures that FLUX edits."""
    assumed: tuple[str, ...] = ()
    """What was not given and taken for granted, as sentences."""

    @property
    def steps(self) -> int:
        """Denoising steps of each clip."""
        return self.settings.steps

    @property
    def branches(self) -> int:
        """Of guidance, 1 or 2."""
        return 2 if self.settings.guidance.is_guided else 1

    @property
    def saved_frames(self) -> int:
        """Frames of the file."""
        if self.frame_factor == 1:
            return self.frames
        return interpolated_count(self.frames, self.frame_factor)


def plan_job(
    app_name: str, values: Mapping[str, Any], driving_seconds: float | None = None
) -> JobPlan:
    """Read a job from an app's parameters.

    Files are looked into where they are given; prompts and files that are not are no problem,
    because nothing is run.

    Args:
        app_name: of `APPS`, with or without its publisher.
        values: by parameter name, as text or typed.
        driving_seconds: length of a driving video that is not given.
    Raises:
        InputError: an unknown app, or a driving video described twice.
        ValidationError: parameters that the app would refuse.
    """
    app = _app(app_name)
    given = dict(values)
    for param in app.params:
        if param.required and param.name not in given:
            given[param.name] = _PLACEHOLDER
    checked = validate(app, given)
    if app is I2V_APP:
        if driving_seconds is not None:
            raise InputError(
                what=f"--driving-seconds is {driving_seconds:g}, and {app.name} takes no video.",
                why="It is the length of a driving video.",
                fix="Leave it out.",
            )
        return _plan_i2v(checked)
    return _plan_animate(checked, driving_seconds)


def _app(name: str) -> App:
    short = name.rpartition("/")[2]
    if short not in APPS:
        raise InputError(
            what=f"There is no app {name!r}.",
            why="A job is a run of one of the apps.",
            fix=f"Use {' or '.join(APPS)}.",
        )
    return APPS[short]


def _is_given(path: str) -> bool:
    return path != _PLACEHOLDER


def _plan_i2v(values: Mapping[str, Any]) -> JobPlan:
    settings, assumed = sample_settings(values), []
    width, height = parse_size(values["size"])
    sides = (width, height)
    if _is_given(values["input_image"]):
        sides = _picture_size(values["input_image"], "input_image")
    else:
        assumed.append("The picture has the aspect of size.")
    width, height = fit_area(*sides, width * height)
    frames = round_frames(values["num_frames"])
    shape = latent_shape(width, height, frames)
    if values["end_frame"] and values["add_frames_for_end_image"]:
        shape = LatentShape(shape.frames + 1, shape.height, shape.width)
        assumed.append("Plain I2V weights: the end frame has a latent frame of its own.")
    computed = settings.steps
    if settings.cache is not None:
        computed = cached_steps(settings, values["tea_cache_start_step_perc"])
        assumed.append(
            f"tea_cache reaches its target of {computed} computed steps; with few steps it skips less."
        )
    if settings.options.attention == "sage":
        assumed.append("sage attention is counted as sdpa: nobody has measured it here.")
    return JobPlan(
        app=I2V_APP.name,
        variant=Variant.I2V,
        width=width,
        height=height,
        frames=frames,
        clips=1,
        clip_frames=frames,
        shape=shape,
        settings=settings,
        computed=computed,
        tile_size=values["vae_tile_size"],
        frame_factor=TEMPORAL[values["temporal_upsampling"]],
        size_factor=SPATIAL[values["spatial_upsampling"]],
        assumed=tuple(assumed),
    )


def cached_steps(settings: SampleSettings, start_percent: int) -> int:
    """Steps that TeaCache aims to compute: the first ones, the last one, and what its speed-up
    leaves."""
    cache, steps = settings.cache, settings.steps
    multiplier = max(1.0, getattr(cache, "multiplier", 1.0))
    start = int(start_percent * steps / 100)
    return min(steps, max(int(steps / multiplier), start + 2))


def _plan_animate(values: Mapping[str, Any], seconds: float | None) -> JobPlan:
    settings, mode = animate_settings(values), Mode(values["mode"])
    assumed = list[str]()
    area = values["resolution_width"] * values["resolution_height"]
    sides = (values["resolution_width"], values["resolution_height"])
    video = values["driving_video"]
    if _is_given(video):
        if seconds is not None:
            raise InputError(
                what=f"Both --driving-seconds {seconds:g} and driving_video {video!r} are given.",
                why="The video says how long it is.",
                fix="Leave one of them out.",
            )
        facts = probe_video(Path(video))
        count = len(plan_frames(facts.frames, facts.fps, values["fps"]))
        sides = (facts.width, facts.height) if mode is Mode.REPLACEMENT else sides
    else:
        length = USUAL_SECONDS if seconds is None else seconds
        rate = values["fps"] if values["fps"] > 0 else USUAL_FPS
        count = max(1, int(length * rate))
        assumed.append(f"The driving video has {count} frames ({length:g} s at {rate} fps).")
    if mode is Mode.ANIMATION and _is_given(values["reference_image"]):
        sides = _picture_size(values["reference_image"], "reference_image")
    elif not (mode is Mode.REPLACEMENT and _is_given(video)):
        assumed.append("The video has the aspect of resolution_width and resolution_height.")
    width, height = fit_area(*sides, area)
    assumed.append("Poses are measured on the GPU (onnxruntime-gpu); a CPU takes seconds a frame.")
    clip_len = settings.clip_len
    shape = latent_shape(width, height, clip_len)
    return JobPlan(
        app="wan-2-2-animate-v2v",
        variant=Variant.ANIMATE,
        width=width,
        height=height,
        frames=count,
        clips=len(plan_clips(count, clip_len, settings.carry)),
        clip_frames=clip_len,
        shape=LatentShape(shape.frames + 1, shape.height, shape.width),
        settings=settings.sample,
        computed=settings.sample.steps,
        tile_size=0,
        driving_frames=count,
        mode=mode,
        edits=2 if values["use_flux"] else 0,
        assumed=tuple(assumed),
    )


def _picture_size(path: str, name: str) -> tuple[int, int]:
    """Width and height of a picture."""
    picture = read_picture(path, name)
    return picture.shape[1], picture.shape[0]
