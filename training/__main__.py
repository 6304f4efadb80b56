"""`python -m training STAGE`: train the miniature, stage after stage. See training/README.md."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch

from .stages import (
    AUTOENCODERS,
    Workshop,
    train_animation,
    train_autoencoder,
    train_decoder,
    train_image_to_video,
    train_lora,
)

_MINUTES = {
    "scenes": 48,
    "figures": 52,
    "decoder-scenes": 12,
    "decoder-figures": 12,
    "image-to-video": 42,
    "animation": 36,
    "lora": 4,
}
_FINISHING = ("assemble", "sheets")
_ASSETS = Path(__file__).resolve().parents[1] / "assets"


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", choices=[*_MINUTES, *_FINISHING])
    parser.add_argument(
        "--folder", type=Path, default=Path(".training"), help="default: %(default)s"
    )
    parser.add_argument("--minutes", type=float, help="of computing in all, interruptions left out")
    parser.add_argument("--steps", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--scale", type=float, default=1.0, help="of the amount of data")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...; default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="faster; needs a C++ compiler")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    seconds = 60 * (options.minutes or _MINUTES.get(options.stage, 0))
    shop = Workshop(options.folder, options.scale, compiled=options.compile, device=options.device)
    if options.stage in _FINISHING:
        _finish(shop, options.stage, _ASSETS / "wan-mini")
    elif options.stage.startswith("decoder-"):
        kind = options.stage.removeprefix("decoder-")
        print(train_decoder(shop, kind, seconds, options.steps))
    elif options.stage in AUTOENCODERS:
        print(train_autoencoder(shop, options.stage, seconds, options.steps))
    else:
        trains = {
            "image-to-video": train_image_to_video,
            "animation": train_animation,
            "lora": train_lora,
        }
        print(trains[options.stage](shop, seconds, options.steps))


def _finish(shop: Workshop, stage: str, target: Path) -> None:
    if stage == "assemble":
        from .assemble import assemble, fill_cards
        from .report import measure_all

        assemble(shop.folder, target)
        fill_cards(target, {})  # defaults are read from them, and figures need those
        figures = measure_all(shop, target)
        fill_cards(target, figures)
        print(json.dumps(figures, indent=1))
    else:
        from .sheets import write_sheets
        from .trial import open_model

        models = open_model(target / "i2v"), open_model(target / "animate")
        lora = target / "loras" / "jumps.safetensors"
        print(*write_sheets(*models, lora, _ASSETS / "sheets"), sep="\n")


if __name__ == "__main__":
    main()
