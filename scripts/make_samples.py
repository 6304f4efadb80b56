"""Writes assets/puppet.mp4, character.png and scene.png: something to animate, drawn for this pack.

Run from the repository root: python scripts/make_samples.py
"""

import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from training.puppets import RIM  # noqa: E402
from training.scenes import Scene, Sprite, render  # noqa: E402
from wan.media.sound import Audio  # noqa: E402
from wan.save.video import write_video  # noqa: E402
from wan.tiny.puppet import Puppet, PuppetVideo, draw_puppets  # noqa: E402

ASSETS = ROOT / "assets"
FPS, SECONDS, RATE = 16, 3, 44_100
DANCER = Puppet(speed=1.0, rim=RIM)
CHARACTER = Puppet(
    rim=RIM,
    shoulders=0.24,
    torso=0.24,
    head=0.1,
    shirt=(70, 150, 25),
    sleeves=(60, 190, 30),
    trousers=(150, 120, 30),
    shoes=(40, 40, 35),
)

SCENE = Scene(
    sprites=(Sprite("circle", "red", 0.45, 0.5, 0.15),),
    caption="",
    background="horizon",
    tones=((110, 140, 148), (60, 120, 60)),
    horizon=0.62,
    side=256,
)


def draw_dance() -> PuppetVideo:
    """The driving video."""
    return draw_puppets(FPS * SECONDS, 320, 448, (DANCER,), background=(96, 128, 30), fps=FPS)


def draw_character() -> np.ndarray:
    """[H, W, 3] uint8, the picture of somebody else."""
    video = draw_puppets(1, 320, 448, (CHARACTER,), background=(180, 190, 40))
    return video.frames[0]


def play_steps() -> Audio:
    """A falling note at every step, two a second, alternately low and high."""
    time = np.arange(RATE * SECONDS) / RATE
    since = time % 0.5
    pitch = np.where((time // 0.5).astype(int) % 2, 330.0, 220.0)
    wave = 0.4 * np.sin(2 * np.pi * pitch * since) * np.exp(-8 * since)
    return Audio(torch.from_numpy(wave.astype(np.float32))[None], RATE)


def main() -> None:
    """Write all files."""
    from PIL import Image

    frames = torch.from_numpy(draw_dance().frames)
    write_video(ASSETS / "puppet.mp4", [frames], FPS, audio=play_steps())
    Image.fromarray(draw_character()).save(ASSETS / "character.png", optimize=True)
    Image.fromarray(render(SCENE)[0]).save(ASSETS / "scene.png", optimize=True)


if __name__ == "__main__":
    main()
