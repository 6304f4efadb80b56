"""The graphs from image to video."""

from dataclasses import dataclass

from graph import (
    AUTO,
    ENCODERS_AND_VAE,
    MINI,
    REPACKAGED,
    UPSAMPLE_NOTE,
    Graph,
    Node,
    list_files,
    saving,
    upsampling,
)

I2V_MODELS = (
    (
        "wan2.1_i2v_480p_14B_fp16.safetensors",
        f"{REPACKAGED}/diffusion_models/wan2.1_i2v_480p_14B_fp16.safetensors",
        "diffusion_models",
    ),
    *ENCODERS_AND_VAE,
)


@dataclass(frozen=True)
class _I2V:
    """What differs between the image-to-video graphs."""

    loader: dict
    models: tuple
    size: tuple[int, int]
    frames: int
    steps: int
    shift: float
    prefix: str
    end_frame: bool = False
    long: bool = False
    guidance: float = 5.0
    prompt: str = "The camera follows as the scene comes alive."


def _first_frame(g: _I2V) -> Node:
    if not g.models:
        return Node(1, "WanLocalSample", "Wan Sample", (320, 120),
                    (("image", "IMAGE"), ("video", "VIDEO"), ("scene", "IMAGE")))  # fmt: skip
    return Node(1, "LoadImage", "First frame", (320, 330),
                (("IMAGE", "IMAGE"), ("MASK", "MASK")), {"image": "example.png"})  # fmt: skip


def _i2v_nodes(g: _I2V) -> tuple[Node, ...]:
    frames_from = {"model": (2, 0), "image": (1, 0 if g.models else 2)}
    sampler_from = {"model": (2, 0), "text": (3, 0), "condition": (4, 0)}
    extra: tuple[Node, ...] = ()
    if g.end_frame:
        frames_from["end_frame"] = (9, 0)
        extra += (
            Node(9, "LoadImage", "End frame", (320, 330),
                 (("IMAGE", "IMAGE"), ("MASK", "MASK")), {"image": "example.png"}),
        )  # fmt: skip
    if g.long:
        sampler_from |= {"cache": (10, 0), "options": (11, 0)}
        extra += (
            Node(10, "WanLocalTeaCache", "Wan TeaCache", (340, 120),
                 (("cache", "WAN_CACHE"),),
                 {"tea_cache": 2.0, "tea_cache_start_step_perc": 0, "coefficients": "auto"}),
            Node(11, "WanLocalSamplingOptions", "Wan Sampling Options", (340, 180),
                 (("options", "WAN_OPTIONS"),),
                 {"enable_RIFLEx": True, "riflex_k": 0, "riflex_force": False,
                  "joint_pass": True, "attention": "sage", "linears": "as loaded"}),
        )  # fmt: skip
    return (
        _first_frame(g),
        Node(2, "WanLocalModelLoader", "Wan Model Loader", (420, 200),
             (("model", "WAN_MODEL"),), g.loader, models=g.models),
        Node(3, "WanLocalPromptEncode", "Wan Prompt Encode", (420, 260),
             (("text", "WAN_TEXT"),),
             {"prompt": g.prompt, "negative_prompt": ""},
             {"model": (2, 0)}),
        Node(4, "WanLocalImageToVideo", "Wan Image to Video", (420, 280),
             (("condition", "WAN_CONDITION"),),
             {"width": g.size[0], "height": g.size[1], "num_frames": g.frames,
              "size_mode": "area, keep aspect", "vae_tile_size": 0,
              "add_frames_for_end_image": "auto"},
             frames_from),
        Node(5, "WanLocalSampler", "Wan Sampler", (340, 680),
             (("latents", "WAN_LATENT"),),
             {"seed": 42, "num_inference_steps": g.steps, "guidance_scale": g.guidance,
              "sample_solver": "unipc", "shift": g.shift},
             sampler_from),
        Node(6, "WanLocalDecode", "Wan Decode", (300, 100),
             (("frames", "IMAGE"),), {"vae_tile_size": 256 if g.long else 0},
             {"model": (2, 0), "latents": (5, 0)}),
        *extra,
        *_ending(g),
    )  # fmt: skip


def _ending(g: _I2V) -> tuple[Node, ...]:
    """From the decoded frames (6, 0) to a file."""
    if not g.models:
        return (saving(7, "Wan Save Video", g.prefix, {"images": (6, 0)}),)
    return (
        *upsampling(12, (6, 0)),
        saving(7, "Wan Save Video", g.prefix, {"images": (14, 0), "fps": (13, 1)}),
    )


_I2V_NOTE = """\
# Image to video with Wan 2.1

{files}
The 720p weights (`wan2.1_i2v_720p_14B_fp16.safetensors`) want 1280 x 720 and shift 5.

`width` x `height` is an **area**: the aspect comes from the image. Wan makes 4n+1 frames; 81 at
16 fps are five seconds.
"""

_END_NOTE = """\
# From a first frame to an end frame

{files}
The end frame may be of any size: it is cropped around its middle to the first one's aspect.
FLF2V weights were trained for this: 1280 x 720, shift 16. With plain I2V weights
`add_frames_for_end_image` = auto gives the end frame a latent frame of its own.
Two frames that are alike often give a still video.
"""

_LONG_NOTE = """\
# A long video

{files}
241 frames are fifteen seconds, three times what the weights were trained on. **RIFLEx** (in Wan
Sampling Options) keeps the motion from returning to its beginning; it changes nothing below 181
frames, and it does not make a video longer by itself. **Wan TeaCache** halves the time: the text
under the sampler says how many forwards were skipped. Both nodes can be left out.
"""

_MINI_PROMPT = "red circle moves right fast"
_MINI_NOTE = """\
# Image to video, a miniature

This graph runs in seconds on any computer and needs no download: the pack brings a miniature of
Wan that was trained on drawn scenes. Try other prompts, for example *red circle moves left slowly*,
*red circle grows fast*, *red circle moves up fast*. It knows these words only, and small pictures:
**it shows that your installation works, and is no measure of Wan's quality.** Open `wan_i2v` for
real videos.
"""

_LOADER = {
    "model": "wan2.1_i2v_480p_14B_fp16.safetensors",
    "text_encoder": "umt5_xxl_fp16.safetensors",
    "vae": "wan_2.1_vae.safetensors",
    "image_encoder": "clip_vision_h.safetensors",
    "precision": AUTO,
    "offload": AUTO,
    "download": False,
}
_MINI_LOADER = {
    "model": MINI,
    "text_encoder": AUTO,
    "vae": AUTO,
    "image_encoder": AUTO,
    "precision": AUTO,
    "offload": AUTO,
    "download": False,
}
_FLF2V = "wan2.1_flf2v_720p_14B_fp16.safetensors"
FLF2V_MODELS = (
    (_FLF2V, f"{REPACKAGED}/diffusion_models/{_FLF2V}", "diffusion_models"),
    *I2V_MODELS[1:],
)


def _graph(number: int, g: _I2V, note: str) -> Graph:
    return Graph(
        g.prefix,
        f"6f0cf1d0-5a0f-4c1b-9d39-0d6a7a1f4e{number:02}",
        _i2v_nodes(g),
        note.format(files=list_files(g.models)) + (UPSAMPLE_NOTE if g.models else ""),
    )


I2V_GRAPHS = (
    _graph(1, _I2V(_LOADER, I2V_MODELS, (832, 480), 81, 30, 3.0, "wan_i2v"), _I2V_NOTE),
    _graph(
        2,
        _I2V(
            _MINI_LOADER,
            (),
            (64, 64),
            17,
            12,
            3.0,
            "wan_i2v_mini",
            guidance=3.0,
            prompt=_MINI_PROMPT,
        ),
        _MINI_NOTE,
    ),
    _graph(
        3,
        _I2V(
            {**_LOADER, "model": _FLF2V},
            FLF2V_MODELS,
            (1280, 720),
            81,
            30,
            16.0,
            "wan_i2v_end_frame",
            end_frame=True,
        ),
        _END_NOTE,
    ),
    _graph(
        4,
        _I2V(_LOADER, I2V_MODELS, (832, 480), 241, 30, 3.0, "wan_i2v_long", long=True),
        _LONG_NOTE,
    ),
)
