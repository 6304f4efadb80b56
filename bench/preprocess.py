"""What the Animate preprocessing costs, beside peers where there are any.

    python bench/preprocess.py [VIDEO ...] [--only mask read draw pose segment] [--repeats 5]
        [--box X0 Y0 X1 Y1] [--json FILE]

Prints a Markdown table. Ours and the peer run in turns; times are medians in milliseconds a frame,
ratios are medians over neighbouring runs, and processor time stands beside each, since on a busy
machine it is the steadier of the two. Peak memory is the growth of the process over what it held
before, and how often that holds the result (Linux only).

The peers:
- for growing a mask, ComfyUI's GrowMask: scipy's grey_dilation with a 3x3 footprint, as often as it
  takes to reach as far. Needs scipy (`pip install -r requirements-test.txt`); left out without it.
- for reading, PyAV alone: the same frames, decoded and converted to rgb24 arrays that are all kept,
  by the same number of threads; for smaller frames each array resized by OpenCV in the same way.

Reading is measured on videos made here (H.264, 106 frames of 720p and 1080p) and on every VIDEO.
With --box, in pixels of the VIDEOs, what works without weights is run on them too: the person in the
box is cut out and their mask grown, made blocky and cut from the video.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import av
import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.measure import Result, Row, load, measure, print_table, write_json
from wan.media.resize import Resize, resize_by_area
from wan.preprocess.mask.grabcut import GrabCut
from wan.preprocess.mask.segment import track_from_box
from wan.preprocess.mask.shape import block_mask, dilate_mask, mask_background, preview
from wan.preprocess.pose import detect, keypoints
from wan.preprocess.pose.face import crop_faces, find_faces
from wan.preprocess.pose.keypoints import build_track
from wan.preprocess.pose.measure import measure_poses
from wan.preprocess.pose.overlay import draw_overlays
from wan.preprocess.pose.skeleton import draw_track
from wan.preprocess.pose.track import PoseTrack
from wan.preprocess.video import plan_frames, read_video
from wan.tiny.puppet import PuppetVideo, draw_puppets

WIDTH, HEIGHT = 1280, 720
FRAMES = 16
FILM_FRAMES = 106
AREA = 832 * 480


def puppet() -> tuple[PuppetVideo, PoseTrack]:
    """A drawn figure at 720p with its true pose."""
    down, across = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    background = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    background[..., 0], background[..., 1] = 70 + across / 12, 70 + down / 8
    video = draw_puppets(FRAMES, WIDTH, HEIGHT, background=background)
    points = np.full((FRAMES, 133, 3), 0.9, np.float32)
    points[..., :2] = video.points[0]
    boxes = np.array([(*video.box(number), 0.9) for number in range(FRAMES)], np.float32)
    return video, build_track(points, boxes, (), WIDTH, HEIGHT)


def mask_rows() -> Iterator[Row]:
    """Growing, blocks and what is made with the mask."""
    video, _ = puppet()
    mask = torch.from_numpy(video.silhouettes[0].astype(np.uint8))
    frames, floats = torch.from_numpy(video.frames), mask.float()
    for given, kind in ((mask, "uint8"), (floats, "float32")):
        grow = partial(dilate_mask, given, 7, 3)
        name = f"grow mask, 7x7 3 times, {kind}"
        yield Row(name, grow, _grow_mask(floats), "scipy", FRAMES, 0.02, (1, 2))
    for columns, rows in ((1, 1), (5, 5)):
        blocks = partial(block_mask, mask, columns, rows)
        yield Row(f"block mask {columns}x{rows}", blocks, frames=FRAMES)
    yield Row("cut mask out of the video", partial(mask_background, frames, mask), frames=FRAMES)
    yield Row("preview mask", partial(preview, frames, mask), frames=FRAMES)


def _grow_mask(masks: torch.Tensor):
    """ComfyUI's GrowMask without tapered corners: 9 times 3x3 reach as far as 3 times 7x7."""
    try:
        from scipy.ndimage import grey_dilation
    except ImportError:
        print("scipy is not installed: growing a mask has no peer here\n", file=sys.stderr)
        return None

    def grow() -> None:
        for mask in masks[: FRAMES // 4].numpy():  # a quarter is enough; four times for the time
            for _ in range(4):
                grown = mask
                for _ in range(9):
                    grown = grey_dilation(grown, footprint=np.ones((3, 3)))

    return grow


def make_film(path: Path, width: int, height: int) -> Path:
    """A moving, grainy picture as H.264."""
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 255, (height // 24, width // 12, 3), np.uint8)
    wide = cv2.resize(coarse, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    grain = chance.normal(0, 6, (4, height, width, 1))
    with av.open(str(path), "w") as container:
        options = {"crf": "20", "preset": "veryfast"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(FILM_FRAMES):
            seen = wide[:, number * 4 : number * 4 + width] + grain[number % 4]
            picture = np.clip(seen, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read_rows(name: str, path: Path) -> Iterator[Row]:
    """All frames, half as many, and smaller ones."""
    with av.open(str(path)) as container:
        count = sum(packet.size > 0 for packet in container.demux(video=0))
        rate = container.streams.video[0].average_rate
    shrink = partial(resize_by_area, area=AREA)
    for fps, resize, what in (
        (-1, None, "all frames"),
        (30, None, "at 30 fps"),
        (16, None, "at 16 fps"),
        (-1, shrink, "all frames, 832x480 pixels' area"),
    ):
        if fps == rate:
            continue  # the same as all
        indices = plan_frames(count, rate, fps)
        yield Row(
            f"read {name}, {what}",
            partial(_read, path, fps, resize),
            partial(_decode, path, indices, resize),
            "PyAV",
            len(indices),
            1.15,
            (1, 2),
        )


def _read(path: Path, fps: float, resize: Resize) -> torch.Tensor:
    return read_video(path, fps, resize, audio=False).frames


def _decode(path: Path, indices: tuple[int, ...], resize: Resize) -> list[np.ndarray]:
    """The peer: nothing but decoding, and an array for each wanted frame."""
    times, arrays = Counter(indices), []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for position, frame in enumerate(container.decode(video=0)):
            if times[position]:
                array = frame.to_ndarray(format="rgb24")
                arrays.append(resize(array) if resize else array)
                arrays += [arrays[-1].copy() for _ in range(times[position] - 1)]
            if position == indices[-1]:
                break
    return arrays


def draw_rows() -> Iterator[Row]:
    """Pictures of a measured pose."""
    video, track = puppet()
    faces = find_faces(track)
    yield Row("draw skeleton", partial(draw_track, track), frames=FRAMES, goal=10)
    overlay = partial(draw_overlays, video.frames, track, faces)
    yield Row("draw overlay", overlay, frames=FRAMES)
    yield Row("cut out face", partial(crop_faces, video.frames, faces), frames=FRAMES)


class StandIn:
    """A model that takes no time and always gives the same."""

    name = "stand-in"

    def __init__(self, output: np.ndarray) -> None:
        self._output = output

    def run(self, batch: np.ndarray, reporter: object = None) -> np.ndarray:
        """As many outputs as there are frames."""
        return self._output[: len(batch)]


def pose_rows() -> Iterator[Row]:
    """Measuring poses: all but the models, and of that what is not the scaling of pictures."""
    video, track = puppet()
    x0, y0, x1, y1, score = track.boxes[0]
    people = np.zeros((8, 300, 6), np.float32)
    people[:, 0] = x0 / 2, y0 * 640 / HEIGHT, x1 / 2, y1 * 640 / HEIGHT, score, 0
    down, across = np.mgrid[:64, :48]
    middles = np.random.default_rng(0).uniform((5, 5), (43, 59), (133, 2))
    apart = [(across - x) ** 2 + (down - y) ** 2 for x, y in middles]
    heat = (0.9 * np.exp(-np.array(apart) / 8)).astype(np.float32)
    measure = partial(measure_poses, video.frames, StandIn(people), StandIn(np.stack([heat] * 8)))
    crop = np.zeros((3, 256, 192), np.float32)

    def measure_without_pictures() -> PoseTrack:
        with (
            patch.object(detect, "prepare_frame", lambda frame, target: None),
            patch.object(keypoints, "cut_crop", lambda frame, crop_plan: crop),
        ):
            return measure()

    yield Row("measure pose without the models", measure, frames=FRAMES)
    name = "measure pose without models and scaling"
    yield Row(name, measure_without_pictures, frames=FRAMES, goal=2)


def segment_rows() -> Iterator[Row]:
    """The fallback segmenter."""
    video, track = puppet()
    cut = partial(GrabCut().segment, video.frames, track, lambda: None)
    yield Row("GrabCut, from the pose", cut, frames=FRAMES, threads=(1, 2))


def box_rows(name: str, path: Path, box: list[float]) -> Iterator[Row]:
    """What works on a real video without weights, from a box in its first frame."""
    frames = read_video(path, -1, audio=False).frames
    count, height, width = frames.shape[:3]
    track = track_from_box(box, count, width, height)
    faces = find_faces(track)  # nobody's face was measured: the place for such frames
    crop = partial(crop_faces, frames.numpy(), faces)
    yield Row(f"{name}: cut out face at the fallback's place", crop, frames=count)
    segment = partial(GrabCut().segment, frames.numpy(), track, lambda: None)
    yield Row(f"{name}: GrabCut from the box", segment, frames=count)
    mask = torch.from_numpy(segment())
    grown = dilate_mask(mask, 7, 3)
    yield Row(f"{name}: grow mask", partial(dilate_mask, mask, 7, 3), frames=count)
    yield Row(f"{name}: block mask", partial(block_mask, grown, 1, 1), frames=count)
    yield Row(f"{name}: cut mask out", partial(mask_background, frames, grown), frames=count)


def rows(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """What was asked for."""
    kinds = {"mask": mask_rows, "draw": draw_rows, "pose": pose_rows, "segment": segment_rows}
    for kind, make in kinds.items():
        if kind in options.only:
            yield from make()
    if "read" in options.only:
        for width, height in ((1280, 720), (1920, 1080)):
            film = make_film(folder / f"{height}.mp4", width, height)
            yield from read_rows(f"{height}p", film)
        for path in options.videos:
            yield from read_rows(path.name, path)
    if options.box:
        for path in options.videos:
            yield from box_rows(path.name, path, options.box)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("videos", nargs="*", type=Path)
    kinds = ["mask", "read", "draw", "pose", "segment"]
    parser.add_argument("--only", nargs="*", choices=kinds, default=kinds)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--box", nargs=4, type=float)
    parser.add_argument("--json")
    options = parser.parse_args()
    machine, results = load(), list[Result]()
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(options, Path(folder)):
            results += measure(row, options.repeats)
            print(f"{row.name} ...", file=sys.stderr)
    print(f"{machine} at the start, {load()} at the end; {options.repeats} repeats\n")
    print_table(results)
    if options.json:
        write_json(options.json, results, machine)


if __name__ == "__main__":
    main()
