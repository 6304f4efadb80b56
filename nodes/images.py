"""Between the 8-bit frames of the library and the images of the host."""

import torch

from ..wan.media.frames import fill_from_pixels, to_pixels
from ..wan.media.sequence import MadeFrames
from . import host


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
