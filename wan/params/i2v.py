"""Parameters of the app wan2-1-i2v. Names, types and defaults are those of its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError, Problem
from ..geometry import parse_size
from .table import App, Param

# The rotary table has 1024 temporal positions.
MAX_FRAMES = 4 * 1023 + 1
MAX_SEED = 2**64 - 1


def _size_problem(text: Any) -> str | None:
    try:
        parse_size(text)
    except InputError as error:
        return error.fix
    return None


def _rules(values: Mapping[str, Any]) -> list[Problem]:
    if values.get("end_frame") and values["num_frames"] < 4:
        return [
            Problem(
                "num_frames",
                f"{values['num_frames']} leaves no room between the first and the end frame.",
                "Use at least 5.",
            )
        ]
    return []


I2V_APP = App(
    name="wan2-1-i2v",
    summary="Turns one image, and optionally an end frame, into a video.",
    output="video",
    rules=_rules,
    params=(
        Param(
            "prompt",
            "string",
            "What happens in the video. Text beyond 512 tokens is cut off.",
            required=True,
        ),
        Param(
            "input_image",
            "file",
            "The first frame. Its aspect becomes the video's; transparency is dropped.",
            required=True,
        ),
        Param("end_frame", "file", "The picture the video should end on; needs 5 frames or more."),
        Param(
            "size",
            "string",
            "Width x height, of which the area counts: the aspect comes from input_image. "
            "480p weights want 832x480, 720p weights 1280x720.",
            default="832x480",
            check=_size_problem,
        ),
        Param(
            "num_frames",
            "integer",
            "Frames to generate. Wan makes 4n+1 of them: 80 to 83 give 81, 84 gives 85. "
            "81 is the trained length.",
            default=81,
            minimum=1,
            maximum=MAX_FRAMES,
        ),
        Param(
            "fps",
            "integer",
            "Frames per second of the file. Changes the speed of playback, not the frames.",
            default=16,
            minimum=1,
            maximum=120,
        ),
        Param(
            "guidance_scale",
            "number",
            "How strongly the prompt steers. 1 switches guidance off and takes half the time; "
            "the negative prompt then has no effect.",
            default=5.0,
            minimum=0,
            maximum=30,
        ),
        Param(
            "num_inference_steps",
            "integer",
            "Denoising steps. More is slower and finer.",
            default=30,
            minimum=1,
            maximum=100,
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
            "negative_prompt",
            "string",
            "What to keep away from. Empty takes the model's own default text; a single space "
            "is truly empty.",
            default="",
        ),
        Param(
            "sample_solver",
            "string",
            "Solver of the denoising equation.",
            default="unipc",
            options=("unipc", "dpm++"),
        ),
        Param(
            "shift",
            "number",
            "Moves steps towards the noisy end. 3 suits 480p, 5 720p, 16 first-and-last-frame "
            "weights.",
            default=5.0,
            minimum=0.1,
            maximum=100,
        ),
        Param(
            "tea_cache",
            "number",
            "Wanted speed-up by skipping steps that change little; 0 is off, 1.5 to 2.5 is usual. With "
            "too few steps nothing is skipped, and the run says so.",
            default=2.0,
            minimum=0,
            maximum=10,
        ),
        Param(
            "tea_cache_start_step_perc",
            "integer",
            "Percentage of the steps before any may be skipped. Later keeps more of the motion.",
            default=0,
            minimum=0,
            maximum=100,
        ),
        Param(
            "lora_file",
            "string",
            "A LoRA in safetensors format: a path, the name of a file in the loras folder, or an "
            "https address where downloads are switched on.",
        ),
        Param(
            "lora_multiplier",
            "number",
            "Strength of the LoRA. 0 is off, below 0 turns its effect round.",
            default=1.0,
            minimum=-10,
            maximum=10,
        ),
        Param(
            "vae_tile_size",
            "integer",
            "Encode and decode in tiles of this many pixels: 128 needs the least memory, 0 is fastest "
            "and without seams.",
            default=128,
            options=(0, 128, 256),
        ),
        Param(
            "enable_RIFLEx",
            "boolean",
            "Keeps long videos from looping: stretches one temporal frequency from 181 frames on, and "
            "leaves shorter videos alone.",
            default=True,
        ),
        Param(
            "joint_pass",
            "boolean",
            "Runs both guidance branches in one pass through the weights: the same video, and less "
            "traffic where weights are streamed in.",
            default=True,
        ),
        Param(
            "attention",
            "string",
            "Attention kernel. sage is faster where its package and GPU allow it; otherwise sdpa runs, "
            "and the run says so.",
            default="sage",
            options=("sage", "sdpa"),
        ),
        Param(
            "cfg_star_switch",
            "boolean",
            "Scales the unconditional branch to fit the conditional one (CFG*) from the step that "
            "cfg_zero_step says.",
            default=True,
        ),
        Param(
            "cfg_zero_step",
            "integer",
            "Last step of plain guidance, counted from 0, before CFG* begins; -1 begins at once.",
            default=5,
            minimum=-1,
            maximum=99,
        ),
        Param(
            "add_frames_for_end_image",
            "boolean",
            "Gives the end frame a latent frame of its own where the weights need it: plain I2V weights "
            "do, those trained with an end frame do not. Off puts it in the video's last frame.",
            default=True,
        ),
        Param(
            "temporal_upsampling",
            "string",
            "Twice or four times the frames per second: RIFE adds frames between the sampled ones, and "
            "the video lasts as long as before. Needs RIFE weights.",
            default="",
            options=("", "rife2", "rife4"),
        ),
        Param(
            "spatial_upsampling",
            "string",
            "Enlarges the finished frames by 1.5 or 2 with the Lanczos filter.",
            default="",
            options=("", "lanczos1.5", "lanczos2"),
        ),
    ),
)
