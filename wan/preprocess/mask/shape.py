"""The mask of the person to replace: made larger, made blocky, cut out of the video."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...errors import GeometryError, InputError
from ...media.sequence import MadeFrames
from ...progress import Reporter, Silent, phase


def binary_mask(mask: Tensor) -> Tensor:
    """A mask of any type as 0 and 1.

    Args:
        mask: [T, H, W] or [H, W]. Floating point (0..1) is set from 0.5 on; of other types
            everything but 0 is set.
    Returns:
        [T, H, W] uint8 on the CPU, T = 1 for [H, W]; always new memory.
    Raises:
        GeometryError: another number of axes, or no pixels.
    """
    mask = _with_frames(mask)
    binary = torch.empty(mask.shape, dtype=torch.uint8)
    _binarise(mask, binary)
    return binary


def match_mask(mask: Tensor, frames: Tensor) -> Tensor:
    """A mask for every frame of a video.

    Args:
        mask: as in `binary_mask`; a single one serves all frames.
        frames: [T, H, W, 3].
    Returns:
        [T, H, W] uint8, 0 or 1; of a single mask a view without own memory.
    Raises:
        GeometryError: the mask's size or length is not the video's.
    """
    binary = binary_mask(mask)
    length, height, width = frames.shape[:3]
    count, rows, columns = binary.shape
    if (rows, columns) != (height, width):
        raise GeometryError(
            what=f"The mask is {columns}x{rows} and the video is {width}x{height}.",
            why="Each pixel of the mask belongs to the pixel of the frame at the same place.",
            fix=f"Make the mask from the frames that go into this step, or resize it to "
            f"{width}x{height}.",
        )
    if count not in (1, length):
        raise GeometryError(
            what=f"The mask has {count} frames and the video has {length}.",
            why="Frame by frame they belong together; only a single mask serves a whole video.",
            fix=f"Give one mask or {length}, made from the frames sampled at the same fps.",
        )
    return binary.expand(length, -1, -1)


def dilate_mask(
    mask: Tensor, kernel_size: int, iterations: int, reporter: Reporter | None = None
) -> Tensor:
    """Grow a mask by a square of kernel_size x kernel_size pixels, `iterations` times.

    Args:
        mask: as in `binary_mask`.
        kernel_size: pixels, 1 or more. An even square reaches one pixel further to the right and
            down than to the left and up, as its middle is pixel kernel_size // 2.
        iterations: 0 or more; 0 leaves the mask as it is.
        reporter: told of each frame.
    Returns:
        [T, H, W] uint8, 0 or 1. Nothing grows in from beyond the border.
    Raises:
        InputError: kernel_size or iterations below their range.
        GeometryError: see `binary_mask`.
    Source: Wan2.2 wan/modules/animate/preprocess/utils.py, get_mask_body_img.
    """
    import cv2

    for name, value, lowest, usual in (
        ("mask_kernel_size", kernel_size, 1, 7),
        ("mask_iterations", iterations, 0, 3),
    ):
        if value < lowest:
            raise InputError(
                what=f"{name} is {value}.",
                why=f"It must be at least {lowest}.",
                fix=f"Use {usual} if in doubt; larger is safer against a dark outline.",
            )
    mask = _with_frames(mask)
    grown, binary = (
        torch.empty(mask.shape, dtype=torch.uint8),
        torch.empty(mask.shape[1:], dtype=torch.uint8),
    )
    kernel = np.ones((kernel_size, kernel_size), np.uint8)
    with phase(reporter or Silent(), "grow mask", len(mask)) as advance:
        for frame, target in zip(mask, grown, strict=True):
            _binarise(frame, binary)
            cv2.dilate(binary.numpy(), kernel, dst=target.numpy(), iterations=iterations)
            advance()
    return grown


def block_mask(mask: Tensor, columns: int, rows: int, reporter: Reporter | None = None) -> Tensor:
    """Fill whole cells of the box around a mask, so that it no longer tells the silhouette.

    The box is cut into cells of a `columns`th of its width and a `rows`th of its height, each at
    least a pixel; a cell that holds any of the mask becomes all mask. Its last row and column of
    pixels belong to no cell and stay as they are.

    Args:
        mask: as in `binary_mask`; frames without any mask stay empty.
        columns: 1 or more, mask_w_subdivisions; 1 with rows=1 fills the box.
        rows: 1 or more, mask_h_subdivisions; more of both keeps closer to the silhouette.
        reporter: told of each frame.
    Returns:
        [T, H, W] uint8, 0 or 1; contains the mask.
    Raises:
        InputError: columns or rows below 1.
        GeometryError: see `binary_mask`.
    Source: Wan2.2 wan/modules/animate/preprocess/utils.py, get_aug_mask, which fails on an empty
    mask and on one with fewer pixels than cells.
    """
    for name, value in (("mask_w_subdivisions", columns), ("mask_h_subdivisions", rows)):
        if value < 1:
            raise InputError(
                what=f"{name} is {value}.",
                why="The box around the person is cut into that many parts.",
                fix="Use 1 for the whole box, or up to 5 to keep closer to the person.",
            )
    blocky = binary_mask(mask)
    with phase(reporter or Silent(), "block mask", len(blocky)) as advance:
        for frame in blocky.numpy():
            _fill_cells(frame, columns, rows)
            advance()
    return blocky


def _fill_cells(frame: np.ndarray, columns: int, rows: int) -> None:
    set_rows, set_columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
    if len(set_rows) == 0:
        return
    top, bottom = int(set_rows[0]), int(set_rows[-1])
    left, right = int(set_columns[0]), int(set_columns[-1])
    step_x, step_y = max(1, (right - left) // columns), max(1, (bottom - top) // rows)
    for x in range(left, right, step_x):
        for y in range(top, bottom, step_y):
            cell = frame[y : min(y + step_y, bottom), x : min(x + step_x, right)]
            if cell.any():
                cell[:] = 1


def mask_background(frames: Tensor, mask: Tensor, reporter: Reporter | None = None) -> Tensor:
    """The video with a black hole where the person is.

    Args:
        frames: [T, H, W, 3] uint8; not changed.
        mask: as in `match_mask`, 1 = the person.
        reporter: told of each frame.
    Returns:
        [T, H, W, 3] uint8: frame * (1 - mask).
    Raises:
        GeometryError: the mask does not fit the video, or the frames are not [T, H, W, 3] uint8.
    """
    return _change_frames(frames, mask, _cut_out, "cut out mask", reporter)


def background_video(frames: Tensor, mask: Tensor) -> MadeFrames:
    """`mask_background` frame by frame, each when it is asked for.

    Args, Raises: as `mask_background`.
    """
    fitting = _fitting_mask(frames, mask)

    def make(number: int) -> np.ndarray:
        frame = frames[number].numpy()
        target = np.empty_like(frame)
        _cut_out(frame, fitting[number].numpy(), target)
        return target

    return MadeFrames(len(frames), make)


def preview(frames: Tensor, mask: Tensor, reporter: Reporter | None = None) -> Tensor:
    """The video with the masked area tinted red, to see what would be replaced.

    Args:
        frames: [T, H, W, 3] uint8; not changed.
        mask: as in `match_mask`, 1 = the person.
        reporter: told of each frame.
    Returns:
        [T, H, W, 3] uint8; where the mask is set, half the frame and half pure red.
    Raises:
        GeometryError: as in `mask_background`.
    """
    import cv2

    def tint(frame: np.ndarray, person: np.ndarray, target: np.ndarray) -> None:
        np.right_shift(frame, 1, out=target)
        target[..., 0] += 127
        cv2.copyTo(frame, 1 - person, target)

    return _change_frames(frames, mask, tint, "preview mask", reporter)


def _with_frames(mask: Tensor) -> Tensor:
    """[T, H, W] of a mask that has frames or is one; raises what `binary_mask` does."""
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3 or mask.numel() == 0:
        raise GeometryError(
            what=f"The mask has the shape {list(mask.shape)}.",
            why="A mask is [frames, height, width], or [height, width] for all frames.",
            fix="Connect a mask, not a picture: one value per pixel.",
        )
    return mask


def _binarise(mask: Tensor, target: Tensor) -> None:
    """Write 1 into `target`, uint8 of the same shape, where the mask is set and 0 elsewhere."""
    is_set = target.numpy().view(bool)  # the same bytes, so that one pass is enough
    if mask.is_floating_point():
        np.greater_equal(mask.float().cpu().numpy(), 0.5, out=is_set)
    else:
        np.not_equal(mask.cpu().numpy(), 0, out=is_set)


def _cut_out(frame: np.ndarray, person: np.ndarray, target: np.ndarray) -> None:
    import cv2

    target.fill(0)
    cv2.copyTo(frame, 1 - person, target)


def _change_frames(
    frames: Tensor,
    mask: Tensor,
    change: Callable[[np.ndarray, np.ndarray, np.ndarray], None],
    name: str,
    reporter: Reporter | None,
) -> Tensor:
    """A new video in which `change` wrote each frame from the old one and its mask [H, W]."""
    fitting = _fitting_mask(frames, mask)
    changed = torch.empty(frames.shape, dtype=torch.uint8)
    with phase(reporter or Silent(), name, len(frames)) as advance:
        for frame, person, target in zip(frames, fitting, changed, strict=True):
            pixels = np.ascontiguousarray(frame.cpu().numpy())
            change(pixels, person.numpy(), target.numpy())
            advance()
    return changed


def _fitting_mask(frames: Tensor, mask: Tensor) -> Tensor:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != torch.uint8:
        raise GeometryError(
            what=f"The frames have the shape {list(frames.shape)} and type {frames.dtype}.",
            why="A mask is put on [frames, height, width, 3] in 0..255.",
            fix="Give the frames of a driving video as they were read.",
        )
    return match_mask(mask, frames)
