"""The graphs of character animation and replacement, and of the pose alone."""

from dataclasses import dataclass, field

from graph import (
    AUTO,
    ENCODERS_AND_VAE,
    MINI_ANIMATE,
    UPSAMPLE_NOTE,
    Graph,
    Node,
    list_files,
    saving,
    upsampling,
)

TINY_POSE = "tiny (knows only the drawn puppet, for tests)"
GRABCUT = "GrabCut (fallback, no weights)"
_ANIMATE = "wan2.2_animate_14B_bf16.safetensors"
_REPACKAGED_22 = (
    "https://huggingface.co/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
)
_RELIGHT = "WanAnimate_relight_lora_fp16.safetensors"
ANIMATE_MODELS = (
    (_ANIMATE, f"{_REPACKAGED_22}/diffusion_models/{_ANIMATE}", "diffusion_models"),
    *ENCODERS_AND_VAE,
)
RELIGHT_MODELS = (
    (
        _RELIGHT,
        f"https://huggingface.co/Kijai/WanVideo_comfy/resolve/main/LoRAs/Wan22_relight/{_RELIGHT}",
        "loras",
    ),
)
_POSE_FILES = (
    (
        "yolov10m.onnx",
        "https://huggingface.co/Wan-AI/Wan2.2-Animate-14B/tree/main/process_checkpoint/det",
        "detection",
    ),
    (
        "vitpose-l-wholebody.onnx",
        "https://huggingface.co/JunkyByte/easy_ViTPose/tree/main/onnx/wholebody",
        "detection",
    ),
)
_LOADER = {
    "model": _ANIMATE,
    "text_encoder": "umt5_xxl_fp16.safetensors",
    "vae": "wan_2.1_vae.safetensors",
    "image_encoder": "clip_vision_h.safetensors",
    "precision": AUTO,
    "offload": AUTO,
    "download": False,
}
_MINI_LOADER = {**dict.fromkeys(_LOADER, AUTO), "model": MINI_ANIMATE, "download": False}
_POSE_LOADER = {
    "detector": "yolov10m.onnx",
    "pose": "vitpose-l-wholebody.onnx",
    "device": AUTO,
}
_PUPPET_POSE_LOADER = {"detector": TINY_POSE, "pose": TINY_POSE, "device": AUTO}


@dataclass(frozen=True)
class _Animate:
    """What differs between these graphs."""

    prefix: str
    mode: str = "animation"
    is_mini: bool = False
    size: tuple[int, int] = (1280, 720)
    fps: int = 30
    clip_len: int = 77
    steps: int = 20
    models: tuple = field(default=ANIMATE_MODELS)

    @property
    def is_scene(self) -> bool:
        return self.mode == "replacement"


def _sources(g: _Animate) -> tuple[Node, ...]:
    """The character and the driving video: outputs (1, image slot) and (2, video slot)."""
    if g.is_mini:
        return (
            Node(1, "WanLocalSample", "Wan Sample", (320, 100),
                 (("image", "IMAGE"), ("video", "VIDEO"), ("scene", "IMAGE"))),
        )  # fmt: skip
    return (
        Node(1, "LoadImage", "Character", (320, 330),
             (("IMAGE", "IMAGE"), ("MASK", "MASK")), {"image": "example.png"}),
        Node(2, "LoadVideo", "Driving video", (320, 330),
             (("VIDEO", "VIDEO"),), {"file": "driving.mp4"}),
    )  # fmt: skip


def _measuring(g: _Animate) -> tuple[Node, ...]:
    """Reading the driving video and measuring the pose in it."""
    width, height = g.size
    size_mode = "area" if g.is_scene else "source size"
    pose_loader = _PUPPET_POSE_LOADER if g.is_mini else _POSE_LOADER
    return (
        Node(5, "WanLocalReadDrivingVideo", "Wan Read Driving Video", (360, 290),
             (("driving", "WAN_DRIVING"), ("audio", "AUDIO"), ("fps", "FLOAT")),
             {"fps": g.fps, "size_mode": size_mode, "width": width, "height": height,
              "start_frame": 0, "frame_limit": 0},
             {"video": (1, 1) if g.is_mini else (2, 0)}),
        Node(6, "WanLocalPoseModelLoader", "Wan Pose Model Loader", (360, 140),
             (("pose_model", "WAN_POSE_MODEL"),), pose_loader),
        Node(7, "WanLocalPoseExtract", "Wan Pose Extract", (360, 280),
             (("pose", "WAN_POSE"), ("pose_keypoints", "POSE_KEYPOINT")),
             {"person": "largest", "person_index": 0, "point_x": 0.5, "point_y": 0.5,
              "smoothing": 0.0, "min_score": 0.0},
             {"driving": (5, 0), "pose_model": (6, 0)}),
    )  # fmt: skip


def _cutting(g: _Animate) -> tuple[Node, ...]:
    """The person to replace."""
    if not g.is_scene:
        return ()
    return (
        Node(12, "WanLocalSegmentPerson", "Wan Segment Person", (360, 140),
             (("person_mask", "MASK"),), {"method": GRABCUT},
             {"driving": (5, 0), "pose": (7, 0)}),
        Node(13, "WanLocalMaskDilate", "Wan Mask Dilate", (360, 220),
             (("dilated_mask", "MASK"), ("background", "IMAGE"), ("mask_preview", "IMAGE")),
             {"mask_kernel_size": 7, "mask_iterations": 3,
              "mask_w_subdivisions": 1, "mask_h_subdivisions": 1},
             {"mask": (12, 0), "driving": (5, 0)}),
    )  # fmt: skip


def _nodes(g: _Animate) -> tuple[Node, ...]:
    loader = _MINI_LOADER if g.is_mini else _LOADER
    models = () if g.is_mini else g.models
    lights = RELIGHT_MODELS if g.is_scene and not g.is_mini else ()
    figure = {"model": (3, 0), "driving": (5, 0), "pose": (7, 0), "reference_image": (1, 0)}
    if g.is_scene:
        figure |= {"mask": (13, 0), "background": (13, 1)}
    return (
        *_sources(g),
        Node(3, "WanLocalModelLoader", "Wan Model Loader", (320, 200),
             (("model", "WAN_MODEL"),), loader, models=models),
        *_measuring(g),
        *_cutting(g),
        Node(4, "WanLocalPromptEncode", "Wan Prompt Encode", (380, 220),
             (("text", "WAN_TEXT"),), {"prompt": "", "negative_prompt": ""}, {"model": (3, 0)}),
        Node(8, "WanLocalAnimate", "Wan Animate", (380, 420),
             (("animation", "WAN_ANIMATE"),),
             {"mode": g.mode, "resolution_width": g.size[0], "resolution_height": g.size[1],
              "vae_tile_size": 0, "relighting": AUTO, "relighting_strength": 1.0},
             figure, models=lights),
        Node(9, "WanLocalAnimateSampler", "Wan Animate Sampler", (380, 720),
             (("frames", "IMAGE"),),
             {"seed": 42, "sampling_steps": g.steps, "guide_scale": 1.0, "sample_solver": "dpm++",
              "shift": 5.0, "clip_len": g.clip_len, "refert_num": 1, "colour_match": "off",
              "vae_tile_size": 0, "offload_model": True, "resume": True},
             {"model": (3, 0), "text": (4, 0), "animation": (8, 0)}),
        *_ending(g),
    )  # fmt: skip


def _ending(g: _Animate) -> tuple[Node, ...]:
    """From the sampled frames (9, 0), the rate (5, 2) and the sound (5, 1) to a file."""
    if g.is_mini:
        links = {"images": (9, 0), "fps": (5, 2), "audio": (5, 1)}
        return (saving(10, "Wan Save Video", g.prefix, links, 30.0),)
    links = {"images": (16, 0), "fps": (15, 1), "audio": (5, 1)}
    return (
        *upsampling(14, (9, 0), (5, 2)),
        saving(10, "Wan Save Video", g.prefix, links, 30.0),
    )


_ANIMATION_NOTE = """\
# A character moves like the person in a video

{files}
The picture gives the character, its background and the aspect of the result; the driving video
gives motion, expression, length and sound. Leave the prompt empty: the model works best with its
own default text. For a character of other proportions put **Wan Pose Retarget** between Wan Pose
Extract and Wan Animate.
"""

_REPLACEMENT_NOTE = """\
# A character takes a person's place in a video

{files}
The driving video keeps its scene, camera and sound. Who is replaced is cut out by **Wan Segment
Person**: GrabCut runs without weights; a SAM2 video model in `models/sam2` (for example
`facebook/sam2-hiera-large`) does better. A mask of any other node works too. The relighting LoRA
fits the character to the light of the scene. When in doubt make the mask larger.
"""

_MINI_NOTE = """\
# {title}, a miniature

This graph runs in a minute on any computer and needs no download: a puppet dances in the driving
video, and the pack brings a miniature of Wan Animate that was trained on such puppets. **It shows
that your installation works, and is no measure of Wan's quality.** Open `{real}` for real videos.
"""

_POSE_NOTE = """\
# The pose of a person, as a video

{files}
The skeleton that Wan Animate reads, and an overlay to see whether it fits. No Wan weights are
needed. `pose_keypoints` goes to any node that takes POSE_KEYPOINT.
"""


def _graph(number: int, g: _Animate, note: str) -> Graph:
    extra = RELIGHT_MODELS if g.is_scene else ()
    files = list_files((*g.models, *extra, *_POSE_FILES))
    real = g.prefix.removesuffix("_mini")
    title = "Replacement" if g.is_scene else "Animation"
    return Graph(
        g.prefix,
        f"6f0cf1d0-5a0f-4c1b-9d39-0d6a7a1f4e{number:02}",
        _nodes(g),
        note.format(files=files, real=real, title=title) + ("" if g.is_mini else UPSAMPLE_NOTE),
    )


def _pose_graph(number: int) -> Graph:
    g = _Animate("wan_pose")
    sound = {"fps": (5, 2), "audio": (5, 1)}
    return Graph(
        g.prefix,
        f"6f0cf1d0-5a0f-4c1b-9d39-0d6a7a1f4e{number:02}",
        (
            Node(2, "LoadVideo", "Driving video", (320, 330),
                 (("VIDEO", "VIDEO"),), {"file": "driving.mp4"}),
            *_measuring(g),
            Node(8, "WanLocalPoseDraw", "Wan Pose Draw", (320, 120),
                 (("pose_video", "IMAGE"), ("overlay", "IMAGE")), {},
                 {"pose": (7, 0), "driving": (5, 0)}),
            saving(9, "Pose video", "wan_pose", {"images": (8, 0), **sound}, 30.0),
            saving(10, "Overlay", "wan_pose_overlay", {"images": (8, 1), **sound}, 30.0),
        ),
        _POSE_NOTE.format(files=list_files(_POSE_FILES)),
    )  # fmt: skip


_SMALL = {"is_mini": True, "size": (80, 112), "fps": 16, "clip_len": 17, "steps": 10}
ANIMATE_GRAPHS = (
    _graph(5, _Animate("wan_animation"), _ANIMATION_NOTE),
    _graph(6, _Animate("wan_animation_mini", **_SMALL), _MINI_NOTE),
    _graph(7, _Animate("wan_replacement", "replacement"), _REPLACEMENT_NOTE),
    _graph(8, _Animate("wan_replacement_mini", "replacement", **_SMALL), _MINI_NOTE),
    _pose_graph(9),
)
