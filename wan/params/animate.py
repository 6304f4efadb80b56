"""Parameters of the app wan-2-2-animate-v2v. Names, types, defaults and ranges are its page's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import Problem
from .i2v import MAX_SEED
from .table import App, Param


def _clip_len_problem(value: int) -> str | None:
    if value % 4 == 1:
        return None
    lower = value // 4 * 4 + 1 if value % 4 > 1 else value // 4 * 4 - 3
    return f"Wan works on 4n+1 frames: use {lower} or {lower + 4}."


def _fps_problem(value: int) -> str | None:
    return "Use 1 to 60, or -1 for the fps of the driving video." if value == 0 else None


def _rules(values: Mapping[str, Any]) -> list[Problem]:
    problems = []
    if values["refert_num"] >= values["clip_len"]:
        problems.append(
            Problem(
                "refert_num",
                f"{values['refert_num']} carried frames fill the whole clip of "
                f"{values['clip_len']}.",
                "Use 1, or a clip_len of 9 or more.",
            )
        )
    if values["use_flux"] and not values["retarget_flag"]:
        problems.append(
            Problem(
                "use_flux",
                "true, but retarget_flag is false: edited images serve pose retargeting only.",
                "Set retarget_flag to true or use_flux to false.",
            )
        )
    return problems


ANIMATE_APP = App(
    name="wan-2-2-animate-v2v",
    summary="Moves a character like the person in a video, or puts it in that person's place.",
    output="output_video",
    rules=_rules,
    params=(
        Param(
            "clip_len",
            "integer",
            "Frames sampled at a time, 4n+1.",
            default=77,
            minimum=5,
            maximum=121,
            check=_clip_len_problem,
        ),
        Param(
            "driving_video",
            "file",
            "The video that gives the motion; in replacement also the scene.",
            required=True,
        ),
        Param(
            "fps",
            "integer",
            "Frames per second taken from the driving video; -1 takes all of them.",
            default=30,
            minimum=-1,
            maximum=60,
            check=_fps_problem,
        ),
        Param(
            "guide_scale",
            "number",
            "Guidance on expression; above 1 every step runs twice.",
            default=1.0,
            minimum=1,
            maximum=10,
        ),
        Param("input_prompt", "string", "Empty takes the default text.", default=""),
        Param(
            "mask_h_subdivisions",
            "integer",
            "Rows the mask is blocked into; more follows the figure closer.",
            default=1,
            minimum=1,
            maximum=5,
        ),
        Param(
            "mask_iterations",
            "integer",
            "Times the mask is dilated.",
            default=3,
            minimum=1,
            maximum=10,
        ),
        Param(
            "mask_kernel_size",
            "integer",
            "Side of the dilation kernel in pixels.",
            default=7,
            minimum=3,
            maximum=15,
        ),
        Param(
            "mask_w_subdivisions",
            "integer",
            "Columns the mask is blocked into; more follows the figure closer.",
            default=1,
            minimum=1,
            maximum=5,
        ),
        Param(
            "mode",
            "string",
            "animation moves the character; replacement puts it into the driving video.",
            default="animation",
            options=("animation", "replacement"),
        ),
        Param(
            "n_prompt",
            "string",
            "What to keep away from; empty takes the default text.",
            default="",
        ),
        Param(
            "offload_model",
            "boolean",
            "Moves models off the GPU while they are not used.",
            default=True,
        ),
        Param(
            "reference_image",
            "file",
            "The character.",
            required=True,
        ),
        Param(
            "refert_num",
            "integer",
            "Frames that each clip takes over from the one before.",
            default=1,
            options=(1, 5),
        ),
        Param(
            "resolution_height",
            "integer",
            "With resolution_width: the area of the video; its aspect comes from the inputs.",
            default=720,
            minimum=512,
            maximum=1920,
        ),
        Param(
            "resolution_width",
            "integer",
            "With resolution_height: the area of the video; its aspect comes from the inputs.",
            default=1280,
            minimum=512,
            maximum=1920,
        ),
        Param(
            "retarget_flag",
            "boolean",
            "Fits the motion to the proportions of the character.",
            default=False,
        ),
        Param(
            "sample_solver",
            "string",
            "Solver of the denoising equation.",
            default="dpm++",
            options=("dpm++", "unipc"),
        ),
        Param(
            "sampling_steps",
            "integer",
            "Denoising steps per clip.",
            default=20,
            minimum=10,
            maximum=50,
        ),
        Param(
            "seed",
            "integer",
            "The same seed gives the same video. -1 draws one and reports it.",
            default=-1,
            minimum=-1,
            maximum=MAX_SEED,
        ),
        Param(
            "shift",
            "number",
            "Moves steps towards the noisy end.",
            default=5.0,
            minimum=1,
            maximum=10,
        ),
        Param(
            "use_flux",
            "boolean",
            "Edits both figures into a standard pose before retargeting.",
            default=False,
        ),
    ),
)
