"""Both upsamplers of a long video, part by part, where several machines share the work."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..progress import Reporter, Silent, phase
from ..residency import DevicePlacement
from ..spread import Part, Spread, plan_parts
from .frames import allocate
from .lanczos import resize, resized_size
from .rife.interpolate import fill_between, interpolated_count, note_cuts
from .rife.load import Rife, load_rife

PAIRS = 32
"""Pairs of frames that go through RIFE as one part."""
FRAMES = 48
"""Frames that are resized as one part."""


def interpolate_spread(
    frames: Tensor, rife: Rife, factor: int, reporter: Reporter, spread: Spread
) -> Tensor:
    """`interpolate`, part by part; the same result.

    Args:
        frames: [T, H, W, 3] uint8 on the CPU, at least two.
        rife: names the file, which every machine has at the same place.
        factor: 2 to 8.
        reporter: told once per pair of frames.
        spread: does the parts.
    """
    count, height, width = frames.shape[:3]
    result = allocate(interpolated_count(count, factor), height, width, frames.dtype, reporter)
    parts = plan_parts(count - 1, PAIRS)
    device, cuts = rife.net.device.type, list[int]()
    given = (
        # One frame more: it ends the last pair, and is the first one of the next part.
        (frames[part.first : part.end + 1].numpy(), str(rife.path), device, factor)
        for part in parts
    )
    with phase(reporter, "interpolate", count - 1) as advance:
        made = spread.map(interpolate_part, given, reporter, device)
        for part, (between, found) in zip(parts, made, strict=True):
            first = part.first * factor
            result[first : first + len(between)].numpy()[:] = between
            cuts += [part.first + number for number in found]
            for _ in range(part.first, part.end):
                advance()
    note_cuts(cuts, reporter)
    return result


def interpolate_part(
    frames: np.ndarray, path: str, device: str, factor: int
) -> tuple[np.ndarray, list[int]]:
    """More frames for some, wherever this runs.

    Args:
        frames: [n, H, W, 3] uint8.
        path: of the RIFE weights.
        device: type of the device.
        factor: 2 to 8.
    Returns:
        [(n - 1) * factor + 1, H, W, 3] uint8, and the numbers of the frames that end a scene.
    """
    given = torch.from_numpy(_own(frames))
    result = torch.empty(
        (interpolated_count(len(given), factor), *given.shape[1:]), dtype=torch.uint8
    )
    cuts = fill_between(given, _opened(path, device), factor, Silent(), result)
    return result.numpy(), cuts


def resize_spread(
    frames: Tensor, factor: float, reporter: Reporter, spread: Spread
) -> Iterator[Tensor]:
    """`resize_each`, part by part; the same frames, several at a time.

    Args:
        frames: [T, H, W, 3] uint8 on the CPU.
        factor, reporter: as `resize_each`.
        spread: does the parts.
    Yields:
        [n, height, width, 3] uint8, in order.
    """
    resized_size(frames.shape[2], frames.shape[1], factor)  # refuses what is out of range
    parts: list[Part] = plan_parts(len(frames), FRAMES)
    given = ((frames[part.frames].numpy(), factor) for part in parts)
    with phase(reporter, "resize", len(frames)) as advance:
        for made in spread.map(resize_part, given, reporter, "cpu"):
            for _ in made:
                advance()
            yield torch.from_numpy(_own(made))


def resize_part(frames: np.ndarray, factor: float) -> np.ndarray:
    """Frames of another size, wherever this runs.

    Args:
        frames: [n, H, W, 3] uint8.
        factor: of both sides.
    Returns:
        [n, height, width, 3] uint8.
    """
    return resize(torch.from_numpy(_own(frames)), factor, Silent()).numpy()


def _own(frames: np.ndarray) -> np.ndarray:
    """Frames as torch wants them: what was sent lies in memory that may not be written to."""
    return frames if frames.flags.writeable else frames.copy()


@lru_cache(maxsize=1)
def _opened(path: str, device: str) -> Rife:
    """Kept by the process, for the next part."""
    return load_rife(Path(path), DevicePlacement(torch.device(device)))
