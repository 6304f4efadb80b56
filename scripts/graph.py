"""What a shipped graph is made of."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

PLACES = Path(__file__).with_name("places.json")
"""Where nodes stand, by graph and node id; from place_nodes.py."""
STAGES = {
    "Load": "#3f789e",
    "Preprocess": "#8a6d3b",
    "Encode": "#88aa88",
    "Sample": "#b58b2a",
    "Decode": "#5b8c8c",
    "Upsample": "#6a6a6a",
    "Save": "#a1309b",
}
"""From left to right, each with the colour of its group."""
_STAGE_OF = {
    "LoadImage": "Load",
    "LoadVideo": "Load",
    "WanLocalSample": "Load",
    "WanLocalModelLoader": "Load",
    "WanLocalReadDrivingVideo": "Preprocess",
    "WanLocalPoseModelLoader": "Preprocess",
    "WanLocalPoseExtract": "Preprocess",
    "WanLocalPoseDraw": "Preprocess",
    "WanLocalSegmentPerson": "Preprocess",
    "WanLocalMaskDilate": "Preprocess",
    "WanLocalPromptEncode": "Encode",
    "WanLocalImageToVideo": "Encode",
    "WanLocalAnimate": "Encode",
    "WanLocalTeaCache": "Sample",
    "WanLocalSamplingOptions": "Sample",
    "WanLocalSampler": "Sample",
    "WanLocalAnimateSampler": "Sample",
    "WanLocalDecode": "Decode",
    "WanLocalRifeLoader": "Upsample",
    "WanLocalRifeInterpolate": "Upsample",
    "WanLocalLanczosResize": "Upsample",
    "WanLocalSaveVideo": "Save",
}
_NOTE_SIZE, _NOTE_GAP = (500, 560), 60
_AROUND, _HEAD = 20, 80  # pixels of a group around its nodes, and above them

REGISTRY_NAME = "wan-local"
MINI = "mini (trained miniature, for a try without a download)"
MINI_ANIMATE = "mini Animate (trained miniature, for a try without a download)"
AUTO = "auto"
_FILES = """\
Put these files into your ComfyUI folder, then press **R**:

| file | folder |
|---|---|
{files}

Any other file of the same models works as well, and so does a folder in Diffusers layout
in `models/diffusers`: the loader reads from the weights what they are.
"""

_SWITCHED_OFF = " (optional: select, then Ctrl+B)"
UPSAMPLE_NOTE = """
The nodes in **Upsample** are bypassed; select one and press Ctrl+B to switch it on. RIFE makes
more frames per second and wants
[rife_v4.26.safetensors](https://huggingface.co/Comfy-Org/frame_interpolation) in
`models/frame_interpolation`; Lanczos makes larger frames and wants nothing.
"""

REPACKAGED = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
ENCODERS_AND_VAE = (
    (
        "umt5_xxl_fp16.safetensors",
        f"{REPACKAGED}/text_encoders/umt5_xxl_fp16.safetensors",
        "text_encoders",
    ),
    ("wan_2.1_vae.safetensors", f"{REPACKAGED}/vae/wan_2.1_vae.safetensors", "vae"),
    (
        "clip_vision_h.safetensors",
        f"{REPACKAGED}/clip_vision/clip_vision_h.safetensors",
        "clip_vision",
    ),
)


@dataclass(frozen=True)
class Node:
    """One node of a graph."""

    id: int
    kind: str
    title: str
    size: tuple[int, int]
    outputs: tuple[tuple[str, str], ...]
    """(name, type) of each output."""
    widgets: dict = field(default_factory=dict)
    """Value by input name, in the order of the node's schema; a linked one keeps its value."""
    links: dict = field(default_factory=dict)
    """(node id, output slot) by input name, in the order of the node's schema."""
    models: tuple[tuple[str, str, str], ...] = ()
    """(file, url, folder) that the page may offer to download."""
    is_bypassed: bool = False
    """Whether it is there to be switched on: until then what it is given passes it by."""

    @property
    def stage(self) -> str:
        """Which of `STAGES` it belongs to."""
        return _STAGE_OF[self.kind]

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

    @cached_property
    def places(self) -> dict[int, tuple[int, int]]:
        """Left upper corner of each node by its id.

        Raises:
            KeyError: place_nodes.py never saw the graph.
        """
        found = json.loads(PLACES.read_text("utf-8"))[self.name]
        return {int(key): (x, y) for key, (x, y) in found.items()}

    @property
    def note_box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the note, left of everything else."""
        left = min(x for x, _ in self.places.values())
        top = min(y for _, y in self.places.values())
        return left - _NOTE_GAP - _NOTE_SIZE[0], top, *_NOTE_SIZE

    @property
    def groups(self) -> list[tuple[str, tuple[int, int, int, int], str]]:
        """Title, box and colour of each stage."""
        top = min(y for _, y in self.places.values()) - _HEAD
        found = []
        for stage, colour in STAGES.items():
            boxes = [(*self.places[n.id], *n.size) for n in self.nodes if n.stage == stage]
            if not boxes:
                continue
            left = min(x for x, *_ in boxes) - _AROUND
            right = max(x + width for x, _, width, _ in boxes) + _AROUND
            low = max(y + height for _, y, _, height in boxes) + _AROUND
            is_off = all(n.is_bypassed for n in self.nodes if n.stage == stage)
            title = stage + (_SWITCHED_OFF if is_off else "")
            found.append((title, (left, top, right - left, low - top), colour))
        return found

    def nodes_in_order(self) -> list[Node]:
        """Each node behind those it reads from."""
        left, found = list(self.nodes), []
        while left:
            known = {n.id for n in found}
            ready = [n for n in left if all(s in known for s, _ in n.links.values())]
            found += ready
            left = [n for n in left if n not in ready]
        return found

    def __getitem__(self, node_id: int) -> Node:
        return next(n for n in self.nodes if n.id == node_id)

    def resolve(self, source: int, slot: int) -> tuple[int, int] | None:
        """Where a link really comes from: past nodes that are bypassed, as the page does it."""
        node = self[source]
        if not node.is_bypassed:
            return source, slot
        wanted = node.outputs[slot][1]
        for origin, place in node.links.values():
            if self[origin].outputs[place][1] == wanted:
                return self.resolve(origin, place)
        return None


def upsampling(
    first_id: int, frames: tuple[int, int], fps: tuple[int, int] | None = None
) -> tuple[Node, ...]:
    """Nodes that make more frames and more pixels, to be switched on; the last one's frames and
    the second one's fps are what follows reads.

    Args:
        first_id: of three.
        frames: what is upsampled.
        fps: where the rate comes from; without it, it is the one of Wan's own.
    """
    loader, rife, lanczos = range(first_id, first_id + 3)
    links = {"rife": (loader, 0), "frames": frames} | ({"fps": fps} if fps else {})
    return (
        Node(loader, "WanLocalRifeLoader", "Wan RIFE Loader", (300, 80),
             (("rife", "WAN_RIFE"),), {"rife_name": "rife_v4.26.safetensors"}, is_bypassed=True),
        Node(rife, "WanLocalRifeInterpolate", "Wan RIFE Interpolate", (300, 180),
             (("all_frames", "IMAGE"), ("new_fps", "FLOAT")),
             {"factor": 2, "fps": 16.0, "motion_scale": AUTO}, links, is_bypassed=True),
        Node(lanczos, "WanLocalLanczosResize", "Wan Lanczos Resize", (300, 100),
             (("resized", "IMAGE"),), {"factor": 2.0}, {"frames": (rife, 0)}, is_bypassed=True),
    )  # fmt: skip


def saving(
    node_id: int,
    title: str,
    prefix: str,
    links: dict,
    fps: float = 16.0,
) -> Node:
    """The node that writes the video.

    Args:
        links: images, and perhaps fps and audio, in this order.
        fps: frames per second where they are not linked.
    """
    widgets = {"fps": fps, "filename_prefix": f"video/{prefix}", "format": "mp4 H.264",
               "quality": "high", "preset": "medium", "crf": -1, "odd_size": "refuse"}  # fmt: skip
    outputs = (("video", "VIDEO"), ("path", "STRING"))
    return Node(node_id, "WanLocalSaveVideo", title, (420, 640), outputs, widgets, links)


def list_files(models: tuple) -> str:
    """The files of a graph with links and folders, for its note."""
    rows = "\n".join(f"| [{name}]({url}) | `models/{folder}` |" for name, url, folder in models)
    return _FILES.format(files=rows)
