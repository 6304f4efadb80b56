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
            "Frames sampled together, 4n+1; longer videos are made clip by clip. 77 is the trained length, "
            "less saves memory.",
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
            "Frames per second taken from the driving video, and of the result; the motion keeps its "
            "speed. -1 takes all of its frames.",
            default=30,
            minimum=-1,
            maximum=60,
            check=_fps_problem,
        ),
        Param(
            "guide_scale",
            "number",
            "Strengthens the expression of the face. Above 1 every step runs twice, and the negative prompt "
            "counts; 1 is usual.",
            default=1.0,
            minimum=1,
            maximum=10,
        ),
        Param(
            "input_prompt",
            "string",
            "What is seen. Empty takes the text that the model was trained with, which is best for "
            "most videos.",
            default="",
        ),
        Param(
            "mask_h_subdivisions",
            "integer",
            "Replacement: rows of blocks that the mask is filled up to. 1 fills the whole height of the "
            "person's box, more follows the figure closer.",
            default=1,
            minimum=1,
            maximum=5,
        ),
        Param(
            "mask_iterations",
            "integer",
            "Replacement: how often the mask is grown. More leaves the character more room.",
            default=3,
            minimum=1,
            maximum=10,
        ),
        Param(
            "mask_kernel_size",
            "integer",
            "Replacement: side of the square, in pixels, that the mask is grown by each time.",
            default=7,
            minimum=3,
            maximum=15,
        ),
        Param(
            "mask_w_subdivisions",
            "integer",
            "Replacement: columns of blocks that the mask is filled up to. 1 fills the whole width of the "
            "person's box, more follows the figure closer.",
            default=1,
            minimum=1,
            maximum=5,
        ),
        Param(
            "mode",
            "string",
            "animation: the character of the picture moves, in its own surroundings. replacement: it takes "
            "the person's place in the driving video.",
            default="animation",
            options=("animation", "replacement"),
        ),
        Param(
            "n_prompt",
            "string",
            "What to keep away from, where guide_scale is above 1. Empty takes the model's own text.",
            default="",
        ),
        Param(
            "offload_model",
            "boolean",
            "Takes models off the GPU while they are not at work: slower, and less memory.",
            default=True,
        ),
        Param(
            "reference_image",
            "file",
            "The character. In animation its picture also gives the surroundings and the aspect.",
            required=True,
        ),
        Param(
            "refert_num",
            "integer",
            "Frames that each clip takes over from the one before: 1, or 5 for a smoother passage.",
            default=1,
            options=(1, 5),
        ),
        Param(
            "resolution_height",
            "integer",
            "With resolution_width: the area of the video. Its aspect is that of the picture, in "
            "replacement that of the driving video.",
            default=720,
            minimum=512,
            maximum=1920,
        ),
        Param(
            "resolution_width",
            "integer",
            "With resolution_height: the area of the video. Its aspect is that of the picture, in "
            "replacement that of the driving video.",
            default=1280,
            minimum=512,
            maximum=1920,
        ),
        Param(
            "retarget_flag",
            "boolean",
            "Animation: gives the motion the bone lengths of the character, for one of other proportions.",
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
            "Denoising steps of each clip. More is slower and finer.",
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
            "Moves steps towards the noisy end; 5 is usual.",
            default=5.0,
            minimum=1,
            maximum=10,
        ),
        Param(
            "use_flux",
            "boolean",
            "With retarget_flag: FLUX.1-Kontext brings both figures into one neutral pose before their bones "
            "are compared. Slower, and better for unusual poses.",
            default=False,
        ),
    ),
)
