import numpy as np
import pytest
from wan_local.wan.errors import GeometryError
from wan_local.wan.preprocess.pose.face import (
    FaceBoxes,
    crop_faces,
    face_box,
    fallback_box,
    find_faces,
)
from wan_local.wan.preprocess.pose.keypoints import build_track
from wan_local.wan.preprocess.pose.track import PoseTrack


def landmarks(x0, y0, x1, y1, score=0.9):
    """68 points whose bounds are the given ones."""
    random = np.random.default_rng(1)
    points = random.uniform((x0, y0), (x1, y1), (68, 2))
    points[0], points[1] = (x0, y0), (x1, y1)
    return np.concatenate([points, np.full((68, 1), score)], axis=1)


def track(*faces, width=640, height=480):
    """A track of which only the face matters; faces in fractions, None = all points equal."""
    rows = [landmarks(*(f or (0.5, 0.5, 0.5, 0.5))) for f in faces]
    body = np.zeros((len(faces), 20, 3), np.float32)
    hand = np.zeros((len(faces), 21, 3), np.float32)
    boxes = np.zeros((len(faces), 5), np.float32)
    return PoseTrack(width, height, body, hand, hand, np.array(rows, np.float32), boxes)


@pytest.mark.parametrize(
    "face, size, wanted",
    [
        ((0.4, 0.2, 0.5, 0.4), (720, 1280), [503, 648, 128, 293]),
        ((0.25, 0.25, 0.75, 0.75), (512, 512), [110, 401, 101, 392]),
        ((0.9, 0.9, 1, 1), (720, 1280), [1143, 1280, 640, 720]),
        ((0.45, 0.1, 0.55, 0.3), (832, 480), [212, 267, 65, 255]),
        ((-0.05, 0.3, 0.05, 0.5), (480, 832), [0, 47, 133, 243]),
    ],
)
def test_a9_face_box(face, size, wanted):
    height, width = size
    points = landmarks(*face) * (width, height, 1)
    x0, y0, x1, y1 = face_box(points, width, height)
    assert [x0, x1, y0, y1] == wanted
    # the same through a track, whose coordinates are float32 fractions
    found = find_faces(track(face, width=width, height=height))
    assert found.boxes[0].tolist() == [x0, y0, x1, y1] and found.misses == ()


def test_a9_the_heel_before_the_face_does_not_matter():
    points = np.zeros((1, 133, 3), np.float32)
    points[0, 23:91] = landmarks(200, 100, 260, 180)
    points[0, 22] = (5, 470, 0.9)
    faces = find_faces(build_track(points, np.zeros((1, 5), np.float32), (), 640, 480))
    assert faces.boxes[0].tolist() == list(face_box(points[0, 23:91], 640, 480))


def test_a9_all_points_equal_give_a_valid_crop():
    faces = find_faces(track(None))
    assert faces.misses == (0,)
    frames = np.full((1, 480, 640, 3), 77, np.uint8)
    crops = crop_faces(frames, faces)
    assert crops.shape == (1, 512, 512, 3) and crops.dtype == np.uint8 and (crops == 77).all()


def test_fallback_box_is_in_the_upper_middle():
    assert fallback_box(640, 480) == (248, 48, 392, 192)
    assert fallback_box(833, 481) == ((833 - 144) // 2, 48, (833 - 144) // 2 + 144, 192)
    assert fallback_box(3, 3) == (1, 0, 2, 1)


def test_frame_without_face_uses_the_last_crop():
    good, other = (0.4, 0.2, 0.5, 0.4), (0.1, 0.2, 0.2, 0.4)
    outside = (1.2, 0.2, 1.3, 0.4)  # empty after clamping
    faces = find_faces(track(None, good, None, outside, other))
    assert faces.misses == (0, 2, 3)
    assert tuple(faces.boxes[0]) == fallback_box(640, 480)
    assert (faces.boxes[1] == faces.boxes[2]).all() and (faces.boxes[1] == faces.boxes[3]).all()
    assert (faces.boxes[4] != faces.boxes[1]).any()


def test_points_that_are_no_numbers_are_no_face():
    points = landmarks(100, 100, 200, 200)
    points[7, 0] = np.nan
    assert face_box(points, 640, 480) is None


def test_a_face_on_a_line_is_none():
    assert face_box(landmarks(100, 100, 100, 200), 640, 480) is None
    assert face_box(landmarks(100, 100, 200, 100), 640, 480) is None


def test_scores_do_not_count_unless_asked():
    unsure = landmarks(100, 100, 200, 200, score=0.1)
    assert face_box(unsure, 640, 480) is not None
    assert face_box(unsure, 640, 480, min_score=0.3) is None
    unsure[5:, 2] = 0.9
    unsure[:5, :2] = (600, 470)
    x0, _, x1, _ = face_box(unsure, 640, 480, min_score=0.3)
    assert x1 - x0 < 130  # the unsure corner is left out


def test_crop_is_stretched_to_a_square_without_keeping_the_aspect():
    frame = np.zeros((1, 200, 100, 3), np.uint8)
    frame[0, 50:150, 20:40, 0] = 250  # exactly the box: 20 x 100
    crop = crop_faces(frame, FaceBoxes(np.array([[20, 50, 40, 150]]), ()))
    assert (crop[0, :, :, 0] == 250).all()
    ramp = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (200, 1, 3))
    crop = crop_faces(ramp[None], FaceBoxes(np.array([[0, 0, 64, 200]]), ()))
    # bilinear: pixel i of 512 lies at (i + 0.5) / 8 - 0.5
    assert crop[0, 0, 252, 0] == 31 and crop[0, 0, 260, 0] == 32

    stripes = np.tile(np.uint8([0, 255, 255, 0]), (8, 512))[..., None].repeat(3, axis=2)
    crop = crop_faces(stripes[None], FaceBoxes(np.array([[0, 0, 2048, 8]]), ()))
    assert (crop == 255).all()  # between the middle two of four, not the mean of all


def test_frames_of_another_size_or_number_are_an_error():
    faces = find_faces(track((0.4, 0.2, 0.5, 0.4)))
    with pytest.raises(GeometryError, match="Frame 0 is 100x100"):
        crop_faces(np.zeros((1, 100, 100, 3), np.uint8), faces)
    with pytest.raises(GeometryError, match="2 frames and 1 face boxes"):
        crop_faces(np.zeros((2, 480, 640, 3), np.uint8), faces)


# ---- steady boxes


def shaking(frames=40):
    random = np.random.default_rng(5)
    faces = []
    for number in range(frames):
        x, y = 0.3 + 0.005 * number + random.normal(0, 0.01), 0.3 + random.normal(0, 0.01)
        size = 0.15 + random.normal(0, 0.01)
        faces.append((x, y, x + size, y + size))
    return faces


def test_steady_boxes_have_one_size_and_move_smoothly():
    poses = track(*shaking())
    plain, steady = find_faces(poses), find_faces(poses, steady=3)
    sizes = steady.boxes[:, 2:] - steady.boxes[:, :2]
    assert len(np.unique(sizes, axis=0)) == 1
    middles = (steady.boxes[:, :2] + steady.boxes[:, 2:]) / 2
    wild = (plain.boxes[:, :2] + plain.boxes[:, 2:]) / 2
    assert np.diff(middles, n=2, axis=0).std() < 0.3 * np.diff(wild, n=2, axis=0).std()
    assert np.abs(middles - wild).max() < 30
    # hardly any face is cut off
    assert (sizes[0] >= np.percentile(plain.boxes[:, 2:] - plain.boxes[:, :2], 85, axis=0)).all()


def test_steady_boxes_are_off_by_default():
    poses = track(*shaking(5))
    assert (find_faces(poses).boxes == find_faces(poses, steady=0).boxes).all()
    assert len(np.unique(find_faces(poses).boxes[:, 2] - find_faces(poses).boxes[:, 0])) > 1


def test_steady_boxes_stay_inside_the_frame():
    faces = [(0.0, 0.0, 0.2, 0.2)] * 5 + [(0.8, 0.8, 1.0, 1.0)] * 5
    boxes = find_faces(track(*faces), steady=1).boxes
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (640, 480)).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_steady_boxes_take_missed_frames_from_their_neighbours():
    faces = [(0.2, 0.3, 0.4, 0.5)] * 4 + [None] * 2 + [(0.4, 0.3, 0.6, 0.5)] * 4
    found = find_faces(track(*faces), steady=1.5)
    assert found.misses == (4, 5)
    x = found.boxes[:, 0]
    assert x[3] < x[4] < x[5] < x[6]
    assert find_faces(track(None, None), steady=2).misses == (0, 1)
