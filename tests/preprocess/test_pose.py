import numpy as np
import pytest
from wan_local.wan.errors import GeometryError
from wan_local.wan.preprocess.pose.track import (
    HAND_BONES,
    LIMBS,
    Joint,
    PoseTrack,
    describe_misses,
    drop_uncertain,
    select_frames,
    smooth_track,
    to_fractions,
    to_pixels,
)


def track(frames=9, score=0.9, seed=0, misses=()):
    random = np.random.default_rng(seed)

    def points(count):
        places = random.uniform(0.1, 0.9, (frames, count, 2))
        return np.concatenate([places, np.full((frames, count, 1), score)], 2).astype(np.float32)

    boxes = np.tile(np.array([10, 20, 110, 220, 0.9], np.float32), (frames, 1))
    return PoseTrack(480, 832, points(20), points(21), points(21), points(68), boxes, misses)


def test_joints_have_the_names_and_order_of_the_official_list():
    names = (
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist "
        "right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye "
        "right_ear left_ear left_toe right_toe"
    )
    assert [joint.name.lower() for joint in Joint] == names.split()


def test_limbs_are_those_of_the_reference_in_its_order():
    one_based = [(near + 1, far + 1) for near, far in LIMBS]
    wanted = (
        "2,3 2,6 3,4 4,5 6,7 7,8 2,9 9,10 10,11 2,12 12,13 13,14 2,1 1,15 15,17 1,16 16,18 "
        "14,19 11,20"
    )
    assert " ".join(f"{a},{b}" for a, b in one_based) == wanted


def test_hand_has_five_fingers_of_four_bones():
    wanted = "0-1-2-3-4 0-5-6-7-8 0-9-10-11-12 0-13-14-15-16 0-17-18-19-20"
    fingers = [HAND_BONES[4 * f : 4 * f + 4] for f in range(5)]
    assert " ".join("-".join(map(str, [0, *(b for _, b in f)])) for f in fingers) == wanted
    assert all(f[step][1] == f[step + 1][0] for f in fingers for step in range(3))


def test_parts_of_another_shape_are_rejected():
    good = track()
    with pytest.raises(GeometryError, match=r"face of a pose track is \(9, 69, 3\)"):
        PoseTrack(
            480,
            832,
            good.body,
            good.left_hand,
            good.right_hand,
            np.zeros((9, 69, 3), np.float32),
            good.boxes,
        )
    with pytest.raises(GeometryError, match="left_hand"):
        PoseTrack(1, 1, good.body, good.left_hand[:3], good.right_hand, good.face, good.boxes)


@pytest.mark.parametrize("size", [(480, 832), (1280, 720), (1919, 1079), (4096, 2160)])
def test_whole_pixels_survive_the_way_through_fractions(size):
    width, height = size
    x, y = np.arange(width), np.arange(width) % height
    points = np.stack([x, y, np.ones(width)], axis=1)
    back = to_pixels(to_fractions(points, width, height), width, height)
    assert (back.astype(int) == points).all()
    # without rounding, int() would lose a pixel here and there
    raw = to_fractions(points, width, height)[:, :2].astype(np.float64) * size
    assert (raw.astype(int) != points[:, :2]).any() or size == (4096, 2160)


def test_selected_frames_carry_their_misses_along():
    chosen = select_frames(track(misses=(2, 5)), [5, 4, 2, 5])
    assert len(chosen) == 4
    assert chosen.misses == (0, 2, 3)
    assert (chosen.body[1] == track().body[4]).all()


def test_smoothing_is_off_by_default_and_calms_jitter():
    noisy = track(frames=60)
    assert smooth_track(noisy, 0) is noisy
    calm = smooth_track(noisy, 1.0)
    for part in ("body", "left_hand", "right_hand", "face"):
        before, after = getattr(noisy, part), getattr(calm, part)
        assert np.diff(after[..., :2], axis=0).std() < 0.4 * np.diff(before[..., :2], axis=0).std()
        assert (after[..., 2] == before[..., 2]).all()
    assert calm.body.dtype == np.float32


def test_smoothing_keeps_rest_and_straight_motion():
    still = track(frames=20)
    body = np.repeat(still.body[:1], 20, axis=0)
    body[:, Joint.LEFT_WRIST, 0] = np.linspace(0.2, 0.4, 20)
    moving = PoseTrack(480, 832, body, still.left_hand, still.right_hand, still.face, still.boxes)
    smooth = smooth_track(moving, 1.5).body
    # away from the ends, where a mean over neighbours is one-sided
    assert np.abs(smooth[5:-5, :, :2] - body[5:-5, :, :2]).max() < 1e-6


def test_smoothing_ignores_points_that_were_not_seen():
    steady = track(frames=9)
    body = np.repeat(steady.body[:1], 9, axis=0)
    body[4, :, :2] = 5.0  # nonsense of a frame without the person
    body[4, :, 2] = 0.0
    broken = PoseTrack(
        480, 832, body, steady.left_hand, steady.right_hand, steady.face, steady.boxes
    )
    smooth = smooth_track(broken, 1.0).body
    assert np.abs(smooth[..., :2] - body[:1, :, :2]).max() < 1e-6


def test_smoothing_leaves_what_nobody_saw():
    unseen = track(frames=5, score=0.0)
    assert (smooth_track(unseen, 2.0).body == unseen.body).all()


def test_thresholds_are_off_by_default_and_blank_scores_only():
    poses = track()
    assert (drop_uncertain(poses).body == poses.body).all()
    body = poses.body.copy()
    body[:, Joint.LEFT_KNEE, 2] = 0.3
    poses = PoseTrack(480, 832, body, poses.left_hand, poses.right_hand, poses.face, poses.boxes)
    cut = drop_uncertain(poses, body=0.35, face=0.95)
    assert (cut.body[:, Joint.LEFT_KNEE, 2] == 0).all()
    assert (cut.body[:, Joint.RIGHT_KNEE, 2] == np.float32(0.9)).all()
    assert (cut.body[..., :2] == poses.body[..., :2]).all()
    assert (cut.face[..., 2] == 0).all()
    assert (cut.left_hand == poses.left_hand).all()
    assert (poses.body[:, Joint.LEFT_KNEE, 2] == np.float32(0.3)).all()


def test_misses_are_told_in_one_line():
    assert describe_misses({"person": (), "face": ()}, 9) is None
    told = describe_misses({"person": (3,), "face": (4, 5, 9), "mask": ()}, 77)
    assert told == "No person in 1 of 77 frames (3). No face in 3 of 77 frames (4-5, 9)."
