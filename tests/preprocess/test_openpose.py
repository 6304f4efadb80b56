import json

import numpy as np
import pytest
from wan_local.wan.errors import GeometryError, InputError
from wan_local.wan.preprocess.pose.detect import PersonChoice, PersonRule
from wan_local.wan.preprocess.pose.openpose import read_openpose, write_openpose
from wan_local.wan.preprocess.pose.track import Joint, PoseTrack, to_fractions, to_pixels

WIDTH, HEIGHT = 640, 480


def track(frames=3, x=300, size=100, score=0.8):
    random = np.random.default_rng(2)

    def points(count):
        places = np.array([x, 200]) + random.uniform(-size, size, (frames, count, 2))
        return np.concatenate([places, np.full((frames, count, 1), score)], axis=2)

    body, left, right, face = points(20), points(21), points(21), points(68)
    left[:, 0], right[:, 0] = body[:, Joint.LEFT_WRIST], body[:, Joint.RIGHT_WRIST]
    parts = (to_fractions(part, WIDTH, HEIGHT) for part in (body, left, right, face))
    return PoseTrack(WIDTH, HEIGHT, *parts, np.zeros((frames, 5), np.float32))


def apart(first, second):
    """Largest distance in pixels over all points, and in score."""
    parts = ("body", "left_hand", "right_hand", "face")
    pairs = [(getattr(first, part), getattr(second, part)) for part in parts]
    places = max(
        np.abs(to_pixels(a, WIDTH, HEIGHT) - to_pixels(b, WIDTH, HEIGHT))[..., :2].max()
        for a, b in pairs
    )
    return places, max(np.abs(a - b)[..., 2].max() for a, b in pairs)


def coco_18(person):
    """The person as DWPose nodes give it: 18 points, no feet, other parts as null."""
    return {
        "pose_keypoints_2d": person["pose_keypoints_2d"],
        "face_keypoints_2d": None,
        "hand_left_keypoints_2d": None,
        "hand_right_keypoints_2d": None,
    }


def test_round_trip_keeps_every_point():
    before = track()
    after = read_openpose(json.loads(json.dumps(write_openpose(before))))
    assert (after.width, after.height, after.misses) == (WIDTH, HEIGHT, ())
    places, scores = apart(before, after)
    assert places < 1e-3 and scores < 1e-6


def test_written_poses_are_what_core_reads():
    # comfy_extras/nodes_sdpose.py reshapes the lists to exactly these numbers of points
    frames = write_openpose(track(2))
    assert len(frames) == 2
    for frame in frames:
        assert (frame["canvas_width"], frame["canvas_height"]) == (WIDTH, HEIGHT)
        (person,) = frame["people"]
        assert {name: len(numbers) // 3 for name, numbers in person.items()} == {
            "pose_keypoints_2d": 18,
            "foot_keypoints_2d": 6,
            "face_keypoints_2d": 70,
            "hand_right_keypoints_2d": 21,
            "hand_left_keypoints_2d": 21,
        }
        assert all(type(n) is float for numbers in person.values() for n in numbers)


def test_written_points_are_pixels_in_openpose_order():
    poses = track(1)
    poses.body[0, Joint.RIGHT_WRIST] = (0.5, 0.25, 0.7)
    person = write_openpose(poses)[0]["people"][0]
    assert person["pose_keypoints_2d"][12:15] == pytest.approx([320, 120, 0.7])
    eyes = to_pixels(poses.body[0, [Joint.RIGHT_EYE, Joint.LEFT_EYE]], WIDTH, HEIGHT)
    assert person["face_keypoints_2d"][-6:] == pytest.approx(eyes.ravel().tolist())
    toe = to_pixels(poses.body[0, Joint.LEFT_TOE], WIDTH, HEIGHT).tolist()
    feet = np.reshape(person["foot_keypoints_2d"], (6, 3))
    assert feet[0] == pytest.approx(toe) and feet[1] == pytest.approx(toe)
    assert (feet[[2, 5]] == 0).all()  # heels are not known


def test_certain_writes_confidences_as_dwpose_does():
    poses = track(1)
    poses.body[0, Joint.LEFT_KNEE, 2] = 0.2
    numbers = write_openpose(poses, certain=0.3)[0]["people"][0]["pose_keypoints_2d"]
    points = np.reshape(numbers, (18, 3))
    assert points[Joint.LEFT_KNEE].tolist() == [0, 0, 0]
    assert points[Joint.RIGHT_KNEE, 2] == 1 and points[Joint.RIGHT_KNEE, 0] > 0
    assert poses.body[0, Joint.LEFT_KNEE, 2] == np.float32(0.2)


def test_dwpose_without_feet_hands_and_face_is_read():
    poses = track()
    frames = write_openpose(poses)
    for frame in frames:
        frame["people"] = [coco_18(person) for person in frame["people"]]
    after = read_openpose(frames)
    assert np.abs(after.body[:, :18] - poses.body[:, :18]).max() < 1e-5
    for missing in (after.body[:, 18:], after.left_hand, after.right_hand, after.face):
        assert (missing == 0).all()


def test_fractions_are_told_from_pixels():
    poses = track()
    frames = write_openpose(poses)
    for frame in frames:
        for name, numbers in frame["people"][0].items():
            points = np.reshape(numbers, (-1, 3)) / (WIDTH, HEIGHT, 1)
            frame["people"][0][name] = points.ravel().tolist()
    assert apart(poses, read_openpose(frames))[0] < 1e-2


def test_body_25_is_read_with_feet():
    points = np.zeros((25, 3))
    points[:, 0], points[:, 1], points[:, 2] = np.arange(25) * 10 + 50, 100, 0.9
    person = {"pose_keypoints_2d": points.ravel().tolist(), "face_keypoints_2d": [0.0] * 210}
    frame = {"canvas_width": WIDTH, "canvas_height": HEIGHT, "people": [person]}
    body = to_pixels(read_openpose([frame]).body[0], WIDTH, HEIGHT)
    numbers = (body[:, 0] - 50) / 10
    wanted = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19.5, 22.5]
    assert numbers.tolist() == pytest.approx(wanted, abs=1e-3)


def test_toe_with_one_missing_point_is_the_other():
    frames = write_openpose(track(1))
    feet = np.reshape(frames[0]["people"][0]["foot_keypoints_2d"], (6, 3))
    feet[1] = 0
    frames[0]["people"][0]["foot_keypoints_2d"] = feet.ravel().tolist()
    after = read_openpose(frames)
    assert to_pixels(after.body[0, Joint.LEFT_TOE], WIDTH, HEIGHT) == pytest.approx(feet[0])


def test_hands_that_core_names_the_other_way_round_are_put_right():
    poses = track(5)
    frames = write_openpose(poses)
    left, right = "hand_left_keypoints_2d", "hand_right_keypoints_2d"
    for frame in frames:
        (person,) = frame["people"]
        person[left], person[right] = person[right], person[left]
    assert apart(poses, read_openpose(frames))[0] < 1e-3


def test_one_crossed_hand_does_not_rename_all():
    poses = track(5)
    poses.left_hand[2, 0] = poses.body[2, Joint.RIGHT_WRIST]
    assert apart(poses, read_openpose(write_openpose(poses)))[0] < 1e-3


def test_frames_without_people_are_misses():
    poses = track(4)
    frames = write_openpose(poses)
    frames[1]["people"] = []
    frames[3]["people"] = [{"pose_keypoints_2d": [0.0] * 54}]  # nobody was seen
    after = read_openpose(frames)
    assert after.misses == (1, 3)
    assert after.boxes[1].tolist() == [0, 0, WIDTH, HEIGHT, -1]
    assert (after.body[[1, 3]] == 0).all()
    assert (
        apart(
            PoseTrack(WIDTH, HEIGHT, *(p[[0, 2]] for p in parts(poses)), poses.boxes[:2]),
            PoseTrack(WIDTH, HEIGHT, *(p[[0, 2]] for p in parts(after)), after.boxes[:2]),
        )[0]
        < 1e-3
    )


def parts(poses):
    return poses.body, poses.left_hand, poses.right_hand, poses.face


def test_one_of_several_people_is_chosen_and_followed():
    small, large = track(3, x=150, size=60), track(3, x=450, size=120)
    frames = write_openpose(small)
    for number, (frame, other) in enumerate(zip(frames, write_openpose(large), strict=True)):
        frame["people"].insert(number % 2, other["people"][0])
    assert apart(large, read_openpose(frames))[0] < 1e-3
    left = read_openpose(frames, PersonChoice(PersonRule.LEFT_MOST))
    assert apart(small, left)[0] < 1e-3


def test_only_poses_without_anybody_are_an_error():
    frames = write_openpose(track(2))
    for frame in frames:
        frame["people"] = []
    with pytest.raises(InputError, match="None of the 2 poses holds a person"):
        read_openpose(frames)


def test_wrong_lists_are_named():
    frames = write_openpose(track(1))
    frames[0]["people"][0]["pose_keypoints_2d"] = [1.0] * 51  # 17 points
    with pytest.raises(InputError, match="pose_keypoints_2d holds 51 numbers"):
        read_openpose(frames)
    with pytest.raises(InputError, match="list of poses is empty"):
        read_openpose([])
    with pytest.raises(InputError, match="no canvas size"):
        read_openpose([{"version": "ap10k", "animals": []}])


def test_frames_of_different_sizes_are_an_error():
    frames = write_openpose(track(2))
    frames[1]["canvas_width"] = 320
    with pytest.raises(GeometryError, match="320x480, 640x480"):
        read_openpose(frames)
