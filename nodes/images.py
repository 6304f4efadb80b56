"""Between the 8-bit frames of the library and the images and sounds of the host."""

import torch

from ..wan.media.resize import to_pixels
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
    image = host.image_memory(count, height, width)
    done = 0
    for batch in batches:
        for frame in batch:
            reporter.check_cancelled()
            torch.div(frame, 255, out=image[done])
            done += 1
    return image


def as_frames(image):
    """An image batch as 8-bit frames, each made when it is looked at; None stays None."""
    return image if image is None else MadeFrames(len(image), lambda n: to_pixels(image[n]))


def to_audio(audio):
    """Sound as other nodes know it, or None."""
    return audio and {"waveform": audio.samples[None], "sample_rate": audio.rate}
