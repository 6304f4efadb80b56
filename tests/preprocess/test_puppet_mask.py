"""The fallback segmenter from end to end: the drawn figure, its measured pose, its silhouette."""

import cv2
import numpy as np
import pytest
from wan_local.wan.preprocess.mask.grabcut import GrabCut
from wan_local.wan.preprocess.mask.segment import segment_person, track_from_box
from wan_local.wan.preprocess.pose.detect import PersonChoice, PersonRule
from wan_local.wan.preprocess.pose.measure import measure_poses
from wan_local.wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime
from wan_local.wan.progress import Silent
from wan_local.wan.tiny import tiny_pose_files
from wan_local.wan.tiny.onnx import write_onnx
from wan_local.wan.tiny.puppet import Puppet, draw_puppets


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_onnx(folder / "comfyui" / "detection")
    runtime = OnnxRuntime("cpu")
    detector, pose = tiny_pose_files(folder)
    return (
        OnnxModel(detector, ModelKind.DETECTOR, runtime),
        OnnxModel(pose, ModelKind.POSE, runtime),
    )


def overlaps(masks, silhouettes):
    """Intersection over union, per frame."""
    masks = np.asarray(masks) > 0
    both, either = masks & silhouettes, masks | silhouettes
    return both.sum(axis=(1, 2)) / either.sum(axis=(1, 2))


def gradient(width, height):
    """Red grows to the right, green downwards."""
    picture = np.full((height, width, 3), 30, np.uint8)
    picture[..., 0] = np.linspace(70, 180, width)
    picture[..., 1] = np.linspace(70, 160, height)[:, None]
    return picture


def texture(width, height, grain=12):
    """Soft patches of the colours that the figure wears too."""
    chance = np.random.default_rng(0).random((height // grain, width // grain, 2))
    soft = cv2.resize(chance.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    picture = np.full((height, width, 3), 30, np.uint8)
    picture[..., :2] = 60 + np.array((140, 130)) * soft
    return picture


@pytest.mark.parametrize(
    "size, puppet, background",
    [
        ((448, 640), Puppet(), None),
        ((448, 640), Puppet(x=0.35, walk=0.3), None),
        ((448, 640), Puppet(), gradient),
        ((448, 640), Puppet(x=0.35, walk=0.3), texture),
        ((448, 640), Puppet(hand=0.035, foot=0.03, shoulders=0.17, arm=0.17), texture),
        ((288, 416), Puppet(), None),
        ((720, 1280), Puppet(), None),
    ],
    ids=["default", "walking", "gradient", "walking over texture", "slim", "small", "large"],
)
def test_mask_of_a_measured_puppet_is_its_silhouette(models, size, puppet, background):
    colours = {} if background is None else {"background": background(*size)}
    video = draw_puppets(5, *size, (puppet,), **colours)
    track = measure_poses(video.frames, *models)
    masks = segment_person(video.frames, track, GrabCut(), Silent()).masks
    assert overlaps(masks, video.silhouettes[0]).min() > 0.9


@pytest.mark.parametrize("figure", [0, 1])
def test_mask_is_of_the_chosen_one_of_two_puppets(models, figure):
    pair = (Puppet(x=0.24, height=0.75), Puppet(x=0.76, height=0.85, outline=1))
    video = draw_puppets(4, 900, 600, pair, gradient(900, 600))
    choice = PersonChoice(PersonRule.INDEX, index=figure)
    track = measure_poses(video.frames, *models, choice)
    masks = segment_person(video.frames, track, GrabCut(), Silent()).masks
    assert overlaps(masks, video.silhouettes[figure]).min() > 0.9
    assert not (masks.numpy().astype(bool) & video.silhouettes[1 - figure]).any()


def test_mask_from_a_box_of_the_first_frame_follows_a_walking_puppet():
    puppet = Puppet(x=0.35, walk=0.3)
    video = draw_puppets(6, puppets=(puppet,), background=texture(448, 640))
    track = track_from_box(video.box(0), 6, 448, 640)
    masks = segment_person(video.frames, track, GrabCut(), Silent()).masks
    assert overlaps(masks, video.silhouettes[0]).min() > 0.9


def test_frames_without_the_puppet_have_no_mask_or_the_one_that_moved_on(models):
    video = draw_puppets(6)
    frames = video.frames.copy()
    frames[2:4] = frames[0, 0, 0]  # gone, in an empty room
    track = measure_poses(frames, *models)
    assert track.misses == (2, 3)
    masks = segment_person(frames, track, GrabCut(), Silent()).masks
    found = overlaps(masks, video.silhouettes[0])
    assert min(found[0], found[1], found[4], found[5]) > 0.9
