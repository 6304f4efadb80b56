"""Strips of frames for the templates' pictures: what goes in, and what the miniature makes of it."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from comfy_page import ComfyPage
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ASSETS, WORKFLOWS = ROOT / "assets", ROOT / "workflows"
_MINI = "mini (trained miniature, for a try without a download)"
_PUPPET = "tiny (knows only the drawn puppet, for tests)"
_GAP, _TILES, _INSET = 8, 5, 3
"""Pixels between tiles, tiles of a strip, how many times smaller a driving frame is."""

Frames = Sequence[np.ndarray]


def make_strips(page: ComfyPage, height: int) -> dict[str, Image.Image]:
    """Run the graphs that the miniatures can, and show what comes out.

    Args:
        page: of a ComfyUI that runs with this pack.
        height: of the strips in pixels.
    Returns:
        By name of the graph, for every shipped one.
    """
    scene, character = (_opened(ASSETS / f"{name}.png") for name in ("scene", "character"))
    driving = _decoded((ASSETS / "puppet.mp4").read_bytes())
    continued = _run(page, _graph("wan_i2v_mini"))[0]
    animation, replacement = (
        _run(page, _graph(f"wan_{kind}_mini"))[0] for kind in ("animation", "replacement")
    )
    overlay, pose = _run(page, _posing(page))
    between = _run(page, _between(page, scene, continued[-1]))[0]
    image = _strip([scene, *_some(continued, _TILES - 1)], height)
    moved, replaced = (
        _strip([character, *_some(frames, _TILES - 1)], height, [None, *_some(driving, _TILES - 1)])
        for frames in (animation, replacement)
    )
    first_and_last = [scene, *_some(between, _TILES - 2), continued[-1]]
    return {
        "wan_i2v": image,
        "wan_i2v_long": image,
        "wan_i2v_mini": image,
        "wan_i2v_end_frame": _strip(first_and_last, height),
        "wan_animation": moved,
        "wan_animation_mini": moved,
        "wan_replacement": replaced,
        "wan_replacement_mini": replaced,
        "wan_pose": _strip(_some(pose, _TILES), height, _some(overlay, _TILES)),
    }


def _graph(name: str) -> dict[str, Any]:
    return json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))


def _node(graph: dict[str, Any], title: str) -> list[Any]:
    """The widgets of a node, to be changed."""
    return next(n for n in graph["nodes"] if n.get("title") == title)["widgets_values"]


def _between(page: ComfyPage, first: np.ndarray, last: np.ndarray) -> dict[str, Any]:
    """From a first to an end frame, by the miniature."""
    for name, frame in (("first", first), ("last", last)):
        _put(page, f"{name}_frame.png", _png(frame))
    graph = _graph("wan_i2v_end_frame")
    _node(graph, "First frame")[0], _node(graph, "End frame")[0] = (
        "first_frame.png",
        "last_frame.png",
    )
    mini = _graph("wan_i2v_mini")
    for title in ("Wan Model Loader", "Wan Prompt Encode", "Wan Image to Video", "Wan Sampler"):
        _node(graph, title)[:] = _node(mini, title)
    return graph


def _posing(page: ComfyPage) -> dict[str, Any]:
    """The pose of the drawn puppet."""
    _put(page, "driving.mp4", (ASSETS / "puppet.mp4").read_bytes())
    graph = _graph("wan_pose")
    _node(graph, "Wan Pose Model Loader")[:2] = [_PUPPET, _PUPPET]
    return graph


def _put(page: ComfyPage, name: str, data: bytes) -> None:
    kind = "video/mp4" if name.endswith(".mp4") else "image/png"
    file = {"name": name, "mimeType": kind, "buffer": data}
    form = {"image": file, "overwrite": "true"}
    answer = page.page.request.post(f"{page.url}/upload/image", multipart=form)
    if not answer.ok:
        raise ValueError(f"{name} was not taken: HTTP {answer.status} {answer.text()[:200]}")


def _run(page: ComfyPage, graph: dict[str, Any]) -> list[list[np.ndarray]]:
    """Frames of each video that a graph saves."""
    page.reload()  # files that were put there are offered only then
    page.open(graph)
    made = page.wait_for(page.queue())
    videos = [entry for entry in made if entry["filename"].endswith(".mp4")]  # no glimpses
    return [_decoded(page.fetch(entry)) for entry in videos]


def _decoded(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def _opened(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def _png(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def _some(frames: Frames, count: int) -> list[np.ndarray]:
    """So many of them, evenly from first to last."""
    return [frames[round(i * (len(frames) - 1) / (count - 1))] for i in range(count)]


def _strip(
    tiles: Frames, height: int, insets: Sequence[np.ndarray | None] | None = None
) -> Image.Image:
    """Tiles beside each other, each with a small picture in its corner where there is one."""
    shown = [_scaled(tile, height) for tile in tiles]
    for tile, inset in zip(shown, insets or (), strict=bool(insets)):
        if inset is not None:
            tile.paste(_scaled(inset, height // _INSET), (0, 0))
    width = sum(tile.width for tile in shown) + _GAP * (len(shown) - 1)
    strip = Image.new("RGB", (width, height), (20, 20, 20))
    left = 0
    for tile in shown:
        strip.paste(tile, (left, 0))
        left += tile.width + _GAP
    return strip


def _scaled(frame: np.ndarray, height: int) -> Image.Image:
    image = Image.fromarray(frame)
    size = round(image.width * height / image.height), height
    return image.resize(size, Image.BICUBIC)
