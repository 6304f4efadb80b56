"""Contact sheets: what the miniature makes, one row a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from wan.load.lora.apply import apply_lora
from wan.payloads import WanModel
from wan.progress import Silent
from wan.sample.guidance import Guidance

from .figure_trial import try_figure
from .scenes import JUMP, Scene, Sprite, moving_so, name_other
from .trial import SETTINGS, run

Array = np.ndarray
_GAP, _LABEL, _PAPER, _INK = 3, 150, (255, 255, 255), (30, 30, 30)
_GUIDED = replace(SETTINGS, guidance=Guidance(3.0, cfg_star=False))
_SEED = 71_003


def write_sheets(i2v: WanModel, animate: WanModel, lora: Path, folder: Path) -> list[Path]:
    """Write `i2v.png`, `animate.png` and `lora.png`.

    Args:
        i2v, animate: both miniatures.
        lora: the one that jumps.
        folder: made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheets = {
        "i2v": _prompts(i2v),
        "animate": _figures(animate),
        "lora": _strengths(i2v, lora),
    }
    paths = []
    for name, rows in sheets.items():
        paths.append(folder / f"{name}.png")
        contact_sheet(rows).save(paths[-1], optimize=True)
    return paths


def contact_sheet(rows: Sequence[tuple[str, Array]], scale: int = 1) -> Image.Image:
    """Videos below each other, each with a label at its left.

    Args:
        rows: label and frames [T, H, W, 3] uint8; all of the same length and size.
        scale: of the pictures.
    """
    _, height, width, _ = rows[0][1].shape
    count = max(len(frames) for _, frames in rows)
    size = _LABEL + count * (width * scale + _GAP), len(rows) * (height * scale + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (label, frames) in enumerate(rows):
        top = number * (height * scale + _GAP)
        draw.multiline_text((4, top + height * scale // 2 - 10), _wrapped(label), fill=_INK)
        for place, frame in enumerate(frames):
            picture = Image.fromarray(frame).resize((width * scale, height * scale), Image.NEAREST)
            sheet.paste(picture, (_LABEL + place * (width * scale + _GAP), top))
    return sheet


def _wrapped(label: str, columns: int = 22) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(label, columns))


def _scene(above: bool = False) -> Scene:
    """Two sprites; one above the other leaves both room to the left and right."""
    places = ((0.5, 0.27), (0.5, 0.73)) if above else ((0.3, 0.4), (0.7, 0.6))
    sprites = (
        Sprite("square", "yellow", *places[0], 0.14),
        Sprite("circle", "red", *places[1], 0.15),
    )
    return Scene(sprites, "", "horizon", ((110, 140, 148), (60, 120, 60)), 0.62)


def _prompts(model: WanModel) -> list[tuple[str, Array]]:
    scene = _scene(above=True)
    motions = ("moves right", "moves left", "grows", "shrinks", "stays still")
    ways = [moving_so(scene, motion, "fast") for motion in motions]
    ways[1:1] = [moving_so(scene, motion, "slowly") for motion in ("moves right", "moves up")]
    rows = [(way.caption, run(model, way, _GUIDED)) for way in ways]
    other = moving_so(name_other(scene), "moves right", "fast")
    rows.append((other.caption, run(model, other, _GUIDED)))
    return rows


def _figures(model: WanModel) -> list[tuple[str, Array]]:
    rows = []
    for mode in ("animation", "replacement"):
        trial = try_figure(model, mode, _SEED)
        shown = slice(0, None, 4)
        if not rows:
            rows.append(("driving video", trial.driving[shown]))
            rows.append(("reference picture", trial.reference[None]))
        rows.append((mode, trial.made[shown]))
    return rows


def _strengths(model: WanModel, lora: Path) -> list[tuple[str, Array]]:
    jump = moving_so(_scene(), JUMP, "fast")
    rows = []
    for strength in (0.0, 0.5, 1.0):
        changed = apply_lora(model, lora, strength, Silent())
        rows.append((f"{jump.caption}, LoRA at {strength:g}", run(changed, jump, _GUIDED)))
    return rows
