"""From what the trainings left to the folders that are shipped: Diffusers layout, model cards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from wan.payloads import Variant
from wan.tiny.configs import part_configs

from .text import text_config, write_encoders

CARDS = Path(__file__).parent / "cards"
FOLDERS = {Variant.I2V: "i2v", Variant.ANIMATE: "animate"}
_PARTS = {
    Variant.I2V: {"vae": "vae-scenes", "transformer": "image-to-video"},
    Variant.ANIMATE: {"vae": "vae-figures", "transformer": "animation"},
}
_TRAINED = ("vae/", "transformer/")
_WEIGHTS = (".safetensors", ".json")


def assemble(trained: Path, target: Path) -> None:
    """Write everything but the cards' figures, which `fill_cards` does.

    Args:
        trained: the folder of the trainings.
        target: `assets/wan-mini`; what is in it is replaced.
    """
    for variant, parts in _PARTS.items():
        folder = target / FOLDERS[variant]
        shutil.rmtree(folder, ignore_errors=True)
        for part, source in parts.items():
            (folder / part).mkdir(parents=True)
            for file in sorted((trained / source).iterdir()):
                if file.suffix in _WEIGHTS:
                    shutil.copyfile(file, folder / part / file.name)
        write_encoders(folder)
        for name, content in part_configs(variant).items():
            if not name.startswith(_TRAINED):
                _write_json(folder / name, _adapted(name, content))
    (target / "loras").mkdir(exist_ok=True)
    shutil.copyfile(trained / "jumps.safetensors", target / "loras" / "jumps.safetensors")


def fill_cards(target: Path, figures: dict[str, Any]) -> None:
    """Write the model cards.

    Args:
        target: `assets/wan-mini`.
        figures: by the names that stand in braces in the cards' texts.
    """
    for card in sorted(CARDS.glob("*.md")):
        folder = target if card.stem == "all" else target / card.stem
        text = card.read_text("utf-8")
        for name, value in figures.items():
            text = text.replace("{" + name + "}", str(value))
        (folder / "README.md").write_text(text, "utf-8")


def _adapted(name: str, content: dict[str, Any]) -> dict[str, Any]:
    if name == "text_encoder/config.json":
        return content | text_config()
    if name == "scheduler/scheduler_config.json":
        return content | {"flow_shift": 3.0}
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
