"""The drawn figure and the tiny models that see it, up to skeleton and face picture."""

import numpy as np
import pytest
from wan_local.wan.errors import InputError
from wan_local.wan.preprocess.pose.detect import PersonChoice, PersonRule
from wan_local.wan.preprocess.pose.face import crop_faces, find_faces
from wan_local.wan.preprocess.pose.keypoints import BODY_SOURCES
from wan_local.wan.preprocess.pose.measure import measure_poses
from wan_local.wan.preprocess.pose.onnx import ModelKind, OnnxModel, OnnxRuntime
from wan_local.wan.preprocess.pose.skeleton import draw_track
from wan_local.wan.preprocess.pose.track import Joint, to_pixels
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


def known_body(video, figure=0):
    """[T, 20, 2] in pixels."""
    first, second = np.array([BODY_SOURCES[joint] for joint in Joint]).T
    points = video.points[figure]
    return (points[:, first] + points[:, second]) / 2


def distances(found, known, width, height):
    return np.linalg.norm(to_pixels(found, width, height)[..., :2] - known, axis=-1)


@pytest.mark.parametrize(
    "size, puppet",
    [
        ((448, 640), Puppet()),
        ((640, 480), Puppet(x=0.4, height=0.85)),
        ((448, 640), Puppet(shoulders=0.26, arm=0.12, thigh=0.17, torso=0.33, head=0.1)),
        ((720, 960), Puppet(outline=2, shirt=(60, 150, 30), trousers=(120, 100, 40))),
    ],
    ids=["default", "landscape", "other proportions", "other colours"],
)
def test_pose_is_measured_within_one_and_a_half_pixels(models, size, puppet):
    width, height = size
    video = draw_puppets(12, width, height, (puppet,))
    track = measure_poses(video.frames, *models)
    assert track.misses == ()
    assert distances(track.body, known_body(video), width, height).max() < 1.5
    points = video.points[0]
    assert distances(track.face, points[:, 23:91], width, height).max() < 1.5
    assert distances(track.left_hand, points[:, 91:112], width, height).max() < 2
    assert distances(track.right_hand, points[:, 112:133], width, height).max() < 2
    for part in (track.body, track.left_hand, track.right_hand, track.face):
        assert part[..., 2].min() > 0.5 and part[..., 2].max() < 1


def test_all_four_files_measure_the_same(models, tmp_path):
    write_onnx(tmp_path)
    runtime = OnnxRuntime("cpu")
    video = draw_puppets(3)
    usual = measure_poses(video.frames, *models)
    others = measure_poses(
        video.frames,
        OnnxModel(tmp_path / "yolov8m.onnx", ModelKind.DETECTOR, runtime),
        OnnxModel(tmp_path / "vitpose_h_wholebody_model.onnx", ModelKind.POSE, runtime),
    )
    assert np.abs(usual.boxes - others.boxes).max() <= 1
    assert np.abs(usual.body - others.body).max() < 2e-3


def test_end_to_end_to_skeleton_and_face(models):
    video = draw_puppets(6)
    track = measure_poses(video.frames, *models)
    skeleton = draw_track(track)
    known = known_body(video)
    for number in range(6):
        x, y = known[number, Joint.LEFT_KNEE].round().astype(int)
        # the joint's own colour within a pixel and a half of where it is
        near = skeleton[number, y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert (near == (0, 0, 255)).all(axis=1).any()
        drawn = skeleton[number].any(axis=2)
        assert (drawn & ~video.silhouettes[0][number]).sum() < 0.02 * drawn.sum()
    faces = find_faces(track)
    assert faces.misses == ()
    for number, (x0, y0, x1, y1) in enumerate(faces.boxes):
        face = video.points[0][number, 23:91]
        assert (face.min(axis=0) > (x0, y0)).all() and (face.max(axis=0) < (x1, y1)).all()
    crops = crop_faces(video.frames, faces)
    # the head's marking, which has much blue, fills the picture
    assert (crops[:, 200:312, 200:312, 2] == 250).all()


def test_two_puppets_are_measured_by_choice(models):
    pair = (Puppet(x=0.27, height=0.6, outline=0), Puppet(x=0.73, height=0.75, outline=1))
    video = draw_puppets(6, 640, 400, pair)
    for choice, figure in (
        (PersonChoice(), 1),
        (PersonChoice(PersonRule.LEFT_MOST), 0),
        (PersonChoice(PersonRule.POINT, x=0.3), 0),
        (PersonChoice(PersonRule.INDEX, index=1), 1),
    ):
        track = measure_poses(video.frames, *models, choice)
        error = distances(track.body, known_body(video, figure), 640, 400)
        assert np.median(error) < 1.5, choice


def test_videos_and_models_are_the_same_each_time(tmp_path):
    first, second = draw_puppets(4), draw_puppets(4)
    assert (first.frames == second.frames).all()
    for name in ("a", "b"):
        write_onnx(tmp_path / name)
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert sorted(files) == [
        "vitpose-l-wholebody.onnx",
        "vitpose_h_wholebody_data.bin",
        "vitpose_h_wholebody_model.onnx",
        "yolov10m.onnx",
        "yolov8m.onnx",
    ]
    assert max(map(len, files.values())) < 8000


def test_tiny_models_pass_onnx_own_checks(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")
    write_onnx(tmp_path)
    for path in tmp_path.glob("*.onnx"):
        onnx.checker.check_model(str(path), full_check=True)


def test_puppet_moves_and_its_silhouette_is_what_is_not_background():
    video = draw_puppets(16, background=(60, 150, 35))
    assert video.frames.shape == (16, 640, 448, 3)
    differs = (video.frames != (60, 150, 35)).any(axis=-1)
    assert (differs == video.silhouettes[0]).all()
    wrists = video.points[0][:, 9:11]
    ankles = video.points[0][:, 15:17]
    assert np.ptp(wrists, axis=0).min() > 15 and np.ptp(ankles[..., 0], axis=0).min() > 10
    # left is the person's own: on our right in a figure that faces us
    assert (video.points[0][:, 5, 0] > video.points[0][:, 6, 0]).all()


def test_silhouette_in_front_hides_the_one_behind():
    pair = (Puppet(x=0.45, outline=0), Puppet(x=0.55, outline=1))
    video = draw_puppets(2, 320, 320, pair)
    behind, front = video.silhouettes
    assert not (behind & front).any() and behind.any()


def test_colours_of_markings_are_refused():
    with pytest.raises(InputError, match=r"\(10, 20, 250\) is too near to a marking"):
        draw_puppets(1, background=(10, 20, 250))
    with pytest.raises(InputError, match="too near"):
        draw_puppets(1, puppets=(Puppet(shirt=(2, 250, 30)),))
    picture = np.full((640, 448, 3), 30, np.uint8)
    picture[..., :2] = 120
    assert (draw_puppets(1, background=picture).frames[0, 0] == picture[0]).all()
    picture[630, 10] = 10, 20, 250
    with pytest.raises(InputError, match=r"\(10, 20, 250\) is too near"):
        draw_puppets(1, background=picture)
