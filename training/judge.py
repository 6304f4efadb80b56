"""Did a video do what its prompt said? Compared with every motion that could have been asked for."""

from __future__ import annotations

import numpy as np

from .scenes import MOTIONS, SPEEDS, Scene, moving_so, render

Array = np.ndarray


def answers(scene: Scene) -> list[tuple[str, str]]:
    """Motion and speed of the 13 ways in which a scene may go on."""
    moving = [m for m in MOTIONS if m != "stays still"]
    return [(m, s) for m in moving for s in SPEEDS] + [("stays still", "slowly")]


def judge(frames: Array, scene: Scene) -> tuple[str, str]:
    """The motion and speed whose true continuation is nearest by mean square.

    Args:
        frames: [T, H, W, 3], 0..255, of the scene's length and size.
        scene: gives the first frame.
    """
    made = frames.astype(np.float32)

    def distance(answer: tuple[str, str]) -> float:
        true = render(moving_so(scene, *answer)).astype(np.float32)
        return float(np.square(made - true).mean())

    return min(answers(scene), key=distance)


def psnr(first: Array, second: Array) -> float:
    """Peak signal-to-noise ratio in dB of two videos in 0..255."""
    error = np.square(first.astype(np.float64) - second.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
