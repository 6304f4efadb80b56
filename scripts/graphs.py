"""The shipped graphs, described once."""

from dataclasses import dataclass, field

REGISTRY_NAME = "wan-local"
TINY = "tiny (random weights, for a try without a download)"
AUTO = "auto"

_REPACKAGED = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"


@dataclass(frozen=True)
class Node:
    """One node of a graph."""

    id: int
    kind: str
    title: str
    at: tuple[int, int]
    size: tuple[int, int]
    outputs: tuple[tuple[str, str], ...]
    """(name, type) of each output."""
    widgets: dict = field(default_factory=dict)
    """Value by input name, in the order of the node's schema."""
    links: dict = field(default_factory=dict)
    """(node id, output slot) by input name, in the order of the node's schema."""
    models: tuple[tuple[str, str, str], ...] = ()
    """(file, url, folder) that the page may offer to download."""

    @property
    def registry(self) -> str:
        """The pack that brings the node."""
        return REGISTRY_NAME if self.kind.startswith("WanLocal") else "comfy-core"


@dataclass(frozen=True)
class Graph:
    """One shipped graph."""

    name: str
    uuid: str
    nodes: tuple[Node, ...]
    note: str
    note_at: tuple[int, int]
    note_size: tuple[int, int]
    groups: tuple[tuple[str, tuple[int, int, int, int], str], ...]

    def __getitem__(self, node_id: int) -> Node:
        return next(n for n in self.nodes if n.id == node_id)


I2V_MODELS = (
    (
        "wan2.1_i2v_480p_14B_fp16.safetensors",
        f"{_REPACKAGED}/diffusion_models/wan2.1_i2v_480p_14B_fp16.safetensors",
        "diffusion_models",
    ),
    (
        "umt5_xxl_fp16.safetensors",
        f"{_REPACKAGED}/text_encoders/umt5_xxl_fp16.safetensors",
        "text_encoders",
    ),
    ("wan_2.1_vae.safetensors", f"{_REPACKAGED}/vae/wan_2.1_vae.safetensors", "vae"),
    (
        "clip_vision_h.safetensors",
        f"{_REPACKAGED}/clip_vision/clip_vision_h.safetensors",
        "clip_vision",
    ),
)


def _i2v_nodes(
    loader: dict, models: tuple, size: tuple[int, int], frames: int, steps: int, shift: float
) -> tuple[Node, ...]:
    return (
        Node(1, "LoadImage", "First frame", (60, 120), (320, 330),
             (("IMAGE", "IMAGE"), ("MASK", "MASK")), {"image": "example.png"}),
        Node(2, "WanLocalModelLoader", "Wan Model Loader", (60, 560), (420, 200),
             (("model", "WAN_MODEL"),), loader, models=models),
        Node(3, "WanLocalPromptEncode", "Wan Prompt Encode", (540, 560), (420, 260),
             (("text", "WAN_TEXT"),),
             {"prompt": "The camera follows as the scene comes alive.", "negative_prompt": ""},
             {"model": (2, 0)}),
        Node(4, "WanLocalImageToVideo", "Wan Image to Video", (540, 120), (320, 180),
             (("condition", "WAN_CONDITION"),),
             {"width": size[0], "height": size[1], "num_frames": frames},
             {"model": (2, 0), "image": (1, 0)}),
        Node(5, "WanLocalSampler", "Wan Sampler", (1020, 120), (340, 480),
             (("latents", "WAN_LATENT"),),
             {"seed": 42, "num_inference_steps": steps, "guidance_scale": 5.0,
              "sample_solver": "unipc", "shift": shift},
             {"model": (2, 0), "text": (3, 0), "condition": (4, 0)}),
        Node(6, "WanLocalDecode", "Wan Decode", (1420, 120), (280, 80),
             (("frames", "IMAGE"),), {}, {"model": (2, 0), "latents": (5, 0)}),
        Node(7, "CreateVideo", "Create Video", (1420, 280), (280, 100),
             (("VIDEO", "VIDEO"),), {"fps": 16.0}, {"images": (6, 0)}),
        Node(8, "SaveVideo", "Save Video", (1760, 120), (420, 420), (),
             {"filename_prefix": "video/wan_i2v", "format": "auto", "codec": "auto"},
             {"video": (7, 0)}),
    )  # fmt: skip


_I2V_GROUPS = (
    ("1 Load", (40, 40, 460, 760), "#3f789e"),
    ("2 Encode", (520, 40, 460, 800), "#8A8"),
    ("4 Sample", (1000, 40, 380, 580), "#b58b2a"),
    ("5 Decode and save", (1400, 40, 800, 520), "#a1309b"),
)

_I2V_NOTE = """\
# Image to video with Wan 2.1

Put these files into your ComfyUI folder, then press **R**:

| file | folder |
|---|---|
{files}

The 720p weights (`wan2.1_i2v_720p_14B_fp16.safetensors`) want 1280 x 720 and shift 5.
Any other file of the same models works as well, and so does a folder in Diffusers layout
in `models/diffusers`: the loader reads from the weights what they are.

`width` x `height` is an **area**: the aspect comes from the image. Wan makes 4n+1 frames; 81 at
16 fps are five seconds.
"""

_TINY_NOTE = """\
# Image to video, the tiny models

This graph runs in seconds on any computer and needs no download: the pack makes miniatures of the
real models with **random weights**. What they make is **noise by nature**. It shows that your
installation works; open `wan_i2v` for real videos.
"""

GRAPHS = (
    Graph(
        "wan_i2v",
        "6f0cf1d0-5a0f-4c1b-9d39-0d6a7a1f4e01",
        _i2v_nodes(
            {
                "model": "wan2.1_i2v_480p_14B_fp16.safetensors",
                "text_encoder": "umt5_xxl_fp16.safetensors",
                "vae": "wan_2.1_vae.safetensors",
                "image_encoder": "clip_vision_h.safetensors",
                "precision": "auto",
            },
            I2V_MODELS,
            (832, 480),
            81,
            30,
            3.0,
        ),
        _I2V_NOTE.format(
            files="\n".join(f"| [{n}]({u}) | `models/{f}` |" for n, u, f in I2V_MODELS)
        ),
        (60, 860),
        (900, 420),
        _I2V_GROUPS,
    ),
    Graph(
        "wan_i2v_tiny",
        "6f0cf1d0-5a0f-4c1b-9d39-0d6a7a1f4e02",
        _i2v_nodes(
            {
                "model": TINY,
                "text_encoder": AUTO,
                "vae": AUTO,
                "image_encoder": AUTO,
                "precision": "auto",
            },
            (),
            (192, 112),
            17,
            8,
            5.0,
        ),
        _TINY_NOTE,
        (60, 860),
        (900, 240),
        _I2V_GROUPS,
    ),
)
