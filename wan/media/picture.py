"""Pictures from files and tensors, resized and scaled as the models expect them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, MissingFileError
from ..geometry import SIZE_STEP
from .frames import to_pixels


def read_picture(path: str | Path, name: str = "image") -> Tensor:
    """Read an image file upright and without transparency.

    Args:
        path: any format that Pillow reads.
        name: how the user knows this input, for error texts.
    Returns:
        [H, W, 3] float32 in 0..1.
    Raises:
        MissingFileError: no such file.
        InputError: not an image, or damaged.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            what=f"{name} is {str(path)!r}, and there is no such file.",
            why="The video starts from this picture.",
            fix="Check the path; quote it if it holds spaces.",
        )
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(
            what=f"{name} {path.name!r} cannot be read as an image ({error}).",
            why="The file is damaged, incomplete or of another kind.",
            fix="Open it in an image viewer and save it again as PNG or JPEG.",
        ) from None
    return torch.from_numpy(np.array(upright)).float().div_(255)


def resize_picture(picture: Tensor, width: int, height: int) -> Tensor:
    """Resize with Pillow's Lanczos filter, the way the hosted app does.

    Args:
        picture: [H, W, 3 or more] in 0..1; channels beyond the third are dropped.
        width, height: pixels.
    Returns:
        [3, height, width] float32 in -1..1.
    """
    from PIL import Image

    image = Image.fromarray(to_pixels(picture))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    resized = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # H W C -> C H W
    return resized.float().div_(127.5).sub_(1)


def cover_picture(picture: Tensor, width: int, height: int) -> Tensor:
    """Crop a picture around its middle to the aspect of width x height.

    A crop of less than one step of 16 pixels in the result is left out: rounding to that step
    changes the aspect, and the reference squeezes there.

    Args:
        picture: [H, W, C].
        width, height: pixels of the result it will be resized to.
    Returns:
        [h, w, C], a view.
    """
    rows, columns = picture.shape[:2]
    scale = max(width / columns, height / rows)
    if columns * scale - width < SIZE_STEP and rows * scale - height < SIZE_STEP:
        return picture
    kept_columns, kept_rows = round(width / scale), round(height / scale)
    left, top = (columns - kept_columns) // 2, (rows - kept_rows) // 2
    return picture[top : top + kept_rows, left : left + kept_columns]
