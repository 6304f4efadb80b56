"""Did a video do what its prompt said? Compared with every motion that could have been asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .scenes import MOTIONS, SPEEDS, Scene, moving_so, render

Array = np.ndarray


def answers(scene: Scene) -> list[tuple[str, str]]:
    """Motion and speed of the 13 ways in which a scene may go on."""
    moving = [m for m in MOTIONS if m != "stays still"]
    return [(m, s) for m in moving for s in SPEEDS] + [("stays still", "slowly")]


def judge(
    frames: Array, scene: Scene, show: Callable[[list[Array]], list[Array]] | None = None
) -> tuple[str, str]:
    """The motion and speed whose true continuation is nearest by mean square.

    Args:
        frames: [T, H, W, 3], 0..255, of the scene's length and size.
        scene: gives the first frame.
        show: changes the true continuations before they are compared, for example to what an
            autoencoder can show of them; None: they stay as they are.
    """
    made, known = frames.astype(np.float32), answers(scene)
    true = [render(moving_so(scene, *answer)) for answer in known]
    shown = show(true) if show else true
    distances = [float(np.square(made - clip.astype(np.float32)).mean()) for clip in shown]
    return known[int(np.argmin(distances))]


def psnr(first: Array, second: Array) -> float:
    """Peak signal-to-noise ratio in dB of two videos in 0..255."""
    error = np.square(first.astype(np.float64) - second.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
