"""A9, A13: reading and writing video files, and the memory it takes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench import video
from bench.measure import Row, rows_of
from wan.media.frames import empty_frames, fill_from_pixels
from wan.media.resize import resize_by_area
from wan.preprocess.video import read_video
from wan.progress import Silent
from wan.save.video import write_video

FRAMES, WIDTH, HEIGHT = 16, 1280, 720
LONG, SMALL_WIDTH, SMALL_HEIGHT = 300, 320, 192
GOAL_SAVE, GOAL_READ = 1.10, 1.15
"""performance.md G9."""


def rows(folder: Path) -> Iterator[Row]:
    """Saving and reading 720p; a long video into one image."""
    pixels = video.moving_picture(FRAMES, HEIGHT, WIDTH)
    images = video.as_image(pixels)
    goals = {"ours, from uint8": GOAL_SAVE, "ours, from IMAGE": GOAL_SAVE}
    saving = video.saving(pixels, images, folder)
    yield from rows_of("A9", "save", saving, FRAMES, goals, (2,))
    reading = video.reading(pixels, folder)
    yield from rows_of("A9", "read", reading, FRAMES, {"ours, to uint8": GOAL_READ})
    shrink = partial(resize_by_area, area=640 * 360)
    ways = {
        "all frames to float32, then chosen and resized": partial(
            read_naively, folder / "read.mp4"
        ),
        "ours": partial(read_video, folder / "read.mp4", 8, shrink, audio=False),
    }
    yield from rows_of("A9", "read every other frame at 640x360", ways, FRAMES // 2, {})
    yield from long_rows(folder / "long.mp4")


def read_naively(path: Path) -> Tensor:
    """Everything first, then the part of it that is wanted."""
    frames = decode_all(path)[::2].permute(0, 3, 1, 2)
    return interpolate(frames, (360, 640), mode="area").permute(0, 2, 3, 1).contiguous()


def decode_all(path: Path) -> Tensor:
    """All frames as IMAGE, by way of a list."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.stack([torch.from_numpy(frame) for frame in frames]).float() / 255


def long_rows(path: Path) -> Iterator[Row]:
    """A13: a long video in memory; what counts is the peak."""
    short = torch.from_numpy(video.moving_picture(60, SMALL_HEIGHT, SMALL_WIDTH))
    write_video(path, [short] * (LONG // len(short)), video.FPS)

    def as_pixels() -> Tensor:
        return read_video(path, -1, audio=False).frames

    def as_image() -> Tensor:
        image = empty_frames(LONG, SMALL_HEIGHT, SMALL_WIDTH)
        return fill_from_pixels([as_pixels()], image, Silent())

    peer = partial(decode_all, path), "all frames to float32"
    for kind, work in (("uint8", as_pixels), ("IMAGE", as_image)):
        yield Row(f"a video of {LONG} frames as {kind}", work, *peer, LONG, id="A13")
