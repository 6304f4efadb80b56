"""Between the 8-bit frames of the library and the images of the host."""

import numpy as np
import torch
from comfy_api.latest import ui

from ..wan.media.frames import fill_from_pixels, to_pixels
from ..wan.media.resize import resize_to
from ..wan.media.sequence import MadeFrames
from . import host

_GLIMPSES, _GLIMPSE_SIDE = 4, 384  # pictures under a node, and their longer side in pixels


def to_image(frames, reporter):
    """Frames as other nodes know them.

    Args:
        frames: [T, H, W, 3] uint8, an array or a tensor.
    Returns:
        [T, H, W, 3] float32 in 0..1.
    """
    frames = torch.as_tensor(frames)
    return collect_image([frames], *frames.shape[:3], reporter)


def collect_image(batches, count, height, width, reporter):
    """Batches of frames as one image.

    Args:
        batches: consecutive frames, each [t, H, W, 3] uint8.
        count: of all frames together.
    Returns:
        [count, H, W, 3] float32 in 0..1; of a long video in a file that is mapped into memory.
    """
    return fill_from_pixels(batches, host.image_memory(count, height, width), reporter)


def as_frames(image):
    """An image batch as 8-bit frames, each made when it is looked at; None stays None."""
    return image if image is None else MadeFrames(len(image), lambda n: to_pixels(image[n]))


def to_image_of(frames, reporter):
    """Frames that are made one by one, as one image; see `to_image`.

    Args:
        frames: numbered frames [H, W, 3] uint8, at least one.
    """
    height, width = frames[0].shape[:2]
    batches = (torch.from_numpy(frames[n])[None] for n in range(len(frames)))
    return collect_image(batches, len(frames), height, width, reporter)


def glimpse(frames, node):
    """A few frames of a video as pictures under the node, small and for the page only.

    Args:
        frames: numbered frames [H, W, 3] uint8; only those that are shown are asked for.
        node: the node class inside `execute`.
    """
    count = min(_GLIMPSES, len(frames))
    numbers = np.linspace(0, len(frames) - 1, count).round().astype(int)
    shown = [np.asarray(frames[int(number)]) for number in numbers]
    height, width = shown[0].shape[:2]
    share = min(1.0, _GLIMPSE_SIDE / max(height, width))
    size = max(1, round(width * share)), max(1, round(height * share))
    small = np.stack([resize_to(np.ascontiguousarray(picture), *size) for picture in shown])
    return ui.PreviewImage(torch.from_numpy(small).float() / 255, cls=node)
