"""`python -m training STAGE`: train the miniature, stage after stage. See training/README.md."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from .stages import (
    AUTOENCODERS,
    Workshop,
    train_animation,
    train_autoencoder,
    train_image_to_video,
    train_lora,
)

_MINUTES = {"scenes": 45, "figures": 45, "image-to-video": 40, "animation": 40, "lora": 4}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", choices=_MINUTES)
    parser.add_argument("--folder", type=Path, default=Path(".training"), help="default: %(default)s")
    parser.add_argument("--minutes", type=float, help="of computing in all, interruptions left out")
    parser.add_argument("--steps", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--compile", action="store_true", help="faster; needs a C++ compiler")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    seconds = 60 * (options.minutes or _MINUTES[options.stage])
    shop = Workshop(options.folder, compiled=options.compile)
    if options.stage in AUTOENCODERS:
        print(train_autoencoder(shop, options.stage, seconds, options.steps))
    else:
        trains = {
            "image-to-video": train_image_to_video,
            "animation": train_animation,
            "lora": train_lora,
        }
        print(trains[options.stage](shop, seconds, options.steps))


if __name__ == "__main__":
    main()
