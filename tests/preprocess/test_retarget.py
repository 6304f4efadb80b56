import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wan_local.wan.errors import InputError
from wan_local.wan.preprocess.pose.track import LIMBS, Joint, PoseTrack, to_pixels
from wan_local.wan.preprocess.retarget.bones import Figure, bone_lengths, cap_feet, pair_ratios
from wan_local.wan.preprocess.retarget.poses import bone_ratios, retarget


def joints(places):
    return np.array([place.split(",") for place in places.split()], float)


# animate.md A15 and A16
DRIVING = joints(
    "240,120 240,200 190,205 170,300 160,390 290,205 310,300 320,390 210,400 205,540 "
    "200,680 270,400 275,540 280,680 228,108 252,108 212,115 268,115 290,720 190,720"
)
REFERENCE = joints(
    "320,150 320,210 285,212 270,262 262,310 355,212 370,262 378,310 298,330 296,400 "
    "294,470 342,330 344,400 346,470 308,138 332,138 292,145 348,145 352,490 288,490"
)
PORTRAIT, LANDSCAPE = (480, 832), (640, 512)
ANKLES = [Joint.RIGHT_ANKLE, Joint.LEFT_ANKLE]
# A hand as offsets from its wrist: a fan of five fingers.
FAN = np.array(
    [(0, 0)] + [(step * (finger - 2) * 2, step * 5) for finger in range(5) for step in range(1, 5)],
    float,
)


def hand(wrists, scores=0.9):
    points = wrists[:, None] + FAN
    return np.concatenate([points, np.broadcast_to(scores, points.shape[:2])[..., None]], -1)


def track(points, size, scores=0.9, low=(), left=None, right=None, misses=(), hand_scores=0.9):
    """A pose in pixels as a track; `low` joints score 0.3."""
    points = np.atleast_3d(points.T).T if points.ndim == 2 else points
    frames = len(points)
    scores = np.broadcast_to(scores, (frames, 20)).copy()
    scores[:, list(low)] = 0.3
    left = hand(points[:, Joint.LEFT_WRIST], hand_scores) if left is None else left
    right = hand(points[:, Joint.RIGHT_WRIST], hand_scores) if right is None else right

    def fractions(pixels):
        return (pixels / (*size, 1)).astype(np.float32)

    return PoseTrack(
        *size,
        body=fractions(np.concatenate([points, scores[..., None]], -1)),
        left_hand=fractions(left),
        right_hand=fractions(right),
        face=np.full((frames, 68, 3), 0.5, np.float32),
        boxes=np.full((frames, 5), 0.8, np.float32),
        misses=misses,
    )


def wave(points, amount, phase=0.0):
    """The pose with every coordinate moved by up to `amount`, the same on every machine."""
    return points + amount * np.sin(np.arange(points.size) * 2.3 + phase).reshape(points.shape)


def body(result):
    return to_pixels(result.body, *result.size)[..., :2]


def test_a16_full_body():
    result = retarget(track(DRIVING, PORTRAIT), track(REFERENCE, LANDSCAPE))
    assert result.size == LANDSCAPE
    expected = {
        Joint.NECK: (320, 219.38),
        Joint.NOSE: (320, 159.38),
        Joint.RIGHT_SHOULDER: (285.12, 222.87),
        Joint.RIGHT_ELBOW: (274.36, 273.95),
        Joint.RIGHT_WRIST: (268.99, 322.32),
        Joint.LEFT_WRIST: (371.01, 322.32),
        Joint.RIGHT_HIP: (301.9, 340.03),
        Joint.RIGHT_KNEE: (299.4, 410.02),
        Joint.RIGHT_ANKLE: (296.9, 480.0),
        Joint.LEFT_TOE: (348.16, 500.26),
    }
    for joint, place in expected.items():
        assert body(result)[0, joint] == pytest.approx(place, abs=0.05), joint.name


def test_a17_retarget_to_oneself_sinks_by_half_a_foot():
    person = track(DRIVING, PORTRAIT)
    result = retarget(person, person)
    assert result.size == PORTRAIT
    assert np.abs(body(result) - (DRIVING + np.array((0, 20)))).max() < 0.05


def motion(frames=3):
    return np.stack([wave(DRIVING, 14, phase) for phase in range(frames)])


GOLDEN_POSES = {
    # name: driving, reference, edited pair
    "three quarter": (
        track(motion(), PORTRAIT, low=ANKLES),
        track(wave(REFERENCE, 6), LANDSCAPE),
        None,
    ),
    "half, hips below the picture": (
        track(motion() + np.array((0, 450)), PORTRAIT),
        track(wave(REFERENCE, 6), LANDSCAPE),
        None,
    ),
    "no height to measure": (
        track(motion(), PORTRAIT, low=[Joint.NOSE]),
        track(wave(REFERENCE, 6), LANDSCAPE),
        None,
    ),
    "edited": (
        track(motion(), PORTRAIT),
        track(wave(REFERENCE, 6), LANDSCAPE),
        (track(wave(DRIVING, 9, 1), PORTRAIT), track(wave(REFERENCE * 0.9, 7, 2), LANDSCAPE)),
    ),
    "edited without measured height": (
        track(motion(), PORTRAIT),
        track(wave(REFERENCE, 6), LANDSCAPE),
        (
            track(wave(DRIVING * 0.8, 9, 1), PORTRAIT, low=[Joint.NOSE]),
            track(wave(REFERENCE * 0.9, 7, 2), LANDSCAPE),
        ),
    ),
}
# Wan2.2 retarget_pose.py get_retarget_pose, executed: frame 2, pixels.
GOLDEN = {
    "three quarter": {
        Joint.NECK: (325.665, 212.691),
        Joint.NOSE: (331.952, 137.680),
        Joint.LEFT_EAR: (335.563, 146.973),
        Joint.LEFT_WRIST: (379.419, 306.856),
        Joint.RIGHT_KNEE: (299.652, 406.980),
        Joint.LEFT_TOE: (351.998, 485.141),
    },
    "half, hips below the picture": {
        Joint.NECK: (324.333, 212.818),
        Joint.NOSE: (330.622, 137.788),
        Joint.LEFT_EAR: (334.235, 147.075),
        Joint.LEFT_WRIST: (378.079, 306.996),
        Joint.RIGHT_KNEE: (298.314, 407.155),
        Joint.LEFT_TOE: (350.670, 485.335),
    },
    "no height to measure": {
        Joint.NECK: (328.488, 224.800),
        Joint.NOSE: (334.775, 149.792),
        Joint.LEFT_EAR: (338.387, 159.080),
        Joint.LEFT_WRIST: (382.229, 318.957),
        Joint.RIGHT_KNEE: (302.476, 419.083),
        Joint.LEFT_TOE: (354.819, 497.242),
    },
    "edited": {
        Joint.NECK: (322.849, 219.734),
        Joint.NOSE: (329.197, 143.993),
        Joint.LEFT_EAR: (323.187, 181.015),
        Joint.LEFT_WRIST: (378.396, 309.200),
        Joint.RIGHT_KNEE: (296.368, 415.098),
        Joint.LEFT_TOE: (344.489, 498.389),
    },
    "edited without measured height": {
        Joint.NECK: (324.711, 299.767),
        Joint.NOSE: (328.934, 249.384),
        Joint.LEFT_EAR: (322.278, 281.049),
        Joint.LEFT_WRIST: (362.564, 361.755),
        Joint.RIGHT_KNEE: (306.442, 434.657),
        Joint.LEFT_TOE: (339.524, 492.468),
    },
}


@pytest.mark.parametrize("name", GOLDEN_POSES)
def test_same_numbers_as_the_reference_code(name):
    result = body(retarget(*GOLDEN_POSES[name]))[2]
    for joint, place in GOLDEN[name].items():
        assert result[joint] == pytest.approx(place, abs=0.01), joint.name


def test_hands_land_where_the_reference_code_puts_them():
    result = retarget(*GOLDEN_POSES["edited"])
    tip = to_pixels(result.left_hand, *result.size)[:, 12]
    # executed as above; its slots are swapped
    assert tip[:, :2].tolist() == [[384, 327], [383, 324], [378, 326]]


def reshaped(points, factors):
    """The pose with each limb `factors` times as long, built one limb after the other."""
    result = points.copy()
    for limb, (near, far) in enumerate(LIMBS):
        result[far] = result[near] + (points[far] - points[near]) * factors[limb]
    return result


def directions(points):
    bones = np.stack([points[..., far, :] - points[..., near, :] for near, far in LIMBS], -2)
    return bones / np.linalg.norm(bones, axis=-1, keepdims=True)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    zoom=st.floats(0.4, 2.0),
    shift=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_bones_get_the_reference_lengths_and_keep_their_directions(seed, zoom, shift):
    driving = np.stack([wave(DRIVING, 10, seed + frame) for frame in range(3)])
    character = wave(REFERENCE, 6, seed + 0.5) * zoom + shift
    result = body(retarget(track(driving, PORTRAIT), track(character, LANDSCAPE)))
    assert np.allclose(directions(result), directions(driving), atol=2e-3)
    # Frame 0 has the reference's bones, of left and right the relatively longer one; feet may be cut.
    ratios = bone_lengths(character) / bone_lengths(driving[0])
    first = bone_lengths(result[0]) / bone_lengths(driving[0])
    feet_and_head = 13
    expected = pair_ratios(ratios)[:feet_and_head]
    # whole pixels of the scaled picture and its size make up to half a percent
    assert np.allclose(first[:feet_and_head] / expected, 1, atol=5e-3)


@settings(max_examples=20)
@given(shift=st.tuples(st.floats(-100, 100), st.floats(-100, 100)), zoom=st.floats(0.5, 2.0))
def test_where_and_how_large_the_driving_person_starts_does_not_matter(shift, zoom):
    moves = np.stack([DRIVING, wave(DRIVING, 10)])
    size = (PORTRAIT[0] * 2, PORTRAIT[1] * 2)
    usual = retarget(track(moves, size), track(REFERENCE, LANDSCAPE))
    other = retarget(track(moves * zoom + shift, size), track(REFERENCE, LANDSCAPE))
    assert np.abs(body(usual) - body(other)).max() < 2.5  # the scaled picture has whole pixels


def test_motion_is_scaled_to_the_size_of_the_character():
    step = np.array((35.0, -14.0))
    moves = np.stack([DRIVING, DRIVING + step])
    result = body(retarget(track(moves, PORTRAIT), track(REFERENCE, LANDSCAPE)))
    assert np.abs(result[1] - result[0] - step / 1.75).max() < 0.01  # scale_min of A16


def test_no_foot_is_longer_than_half_a_calf():
    character = REFERENCE.copy()
    character[Joint.LEFT_TOE] = character[Joint.LEFT_ANKLE] + (90, 40)
    result = body(retarget(track(DRIVING, PORTRAIT), track(character, LANDSCAPE)))[0]
    foot = np.linalg.norm(result[Joint.LEFT_TOE] - result[Joint.LEFT_ANKLE])
    calf = np.linalg.norm(result[Joint.LEFT_ANKLE] - result[Joint.LEFT_KNEE])
    assert foot == pytest.approx(calf / 2, abs=0.01)
    still = cap_feet(DRIVING[None], np.ones(len(LIMBS)))
    assert np.all(still == 1)


def test_left_and_right_share_the_larger_ratio_and_the_head_the_mean():
    names = [f"{near.name} {far.name}" for near, far in LIMBS]
    paired = dict(zip(names, pair_ratios(np.arange(1.0, 20.0)), strict=True))
    assert paired["NECK RIGHT_SHOULDER"] == paired["NECK LEFT_SHOULDER"] == 2
    assert paired["RIGHT_SHOULDER RIGHT_ELBOW"] == paired["LEFT_SHOULDER LEFT_ELBOW"] == 5
    assert paired["RIGHT_ELBOW RIGHT_WRIST"] == paired["LEFT_ELBOW LEFT_WRIST"] == 6
    assert paired["NECK RIGHT_HIP"] == paired["NECK LEFT_HIP"] == 10
    assert paired["RIGHT_KNEE RIGHT_ANKLE"] == paired["LEFT_KNEE LEFT_ANKLE"] == 12
    assert paired["NECK NOSE"] == 13
    assert paired["NOSE RIGHT_EYE"] == paired["NOSE LEFT_EYE"] == 15
    assert paired["RIGHT_EYE RIGHT_EAR"] == paired["LEFT_EYE LEFT_EAR"] == 16
    assert paired["LEFT_ANKLE LEFT_TOE"] == paired["RIGHT_ANKLE RIGHT_TOE"] == 19


def test_bone_without_length_gets_the_mean_of_the_shoulders():
    points = DRIVING.copy()
    points[Joint.NOSE] = points[Joint.NECK]
    here, there = (
        Figure.of(track(p, size), 0) for p, size in ((points, PORTRAIT), (REFERENCE, LANDSCAPE))
    )
    ratios = bone_ratios(here, there)
    plain = bone_lengths(there.resized(1.75).points) / np.maximum(bone_lengths(points), 1e-9)
    nose = LIMBS.index((Joint.NECK, Joint.NOSE))
    assert np.isfinite(ratios).all()
    scale = ratios[LIMBS.index((Joint.NECK, Joint.RIGHT_HIP))]  # the scale is another without nose
    assert scale > 0
    shoulders = plain[:2] * ratios[:2].max() / plain[:2].max()
    assert ratios[nose] == pytest.approx(shoulders.mean(), rel=0.02)


def test_person_folded_into_one_point_does_not_fail():
    point = np.full((20, 2), 100.0)
    for driving, character in ((point, REFERENCE), (DRIVING, point), (point, point)):
        result = retarget(track(driving, PORTRAIT), track(character, LANDSCAPE))
        assert np.isfinite(result.body).all()


def test_ratio_limit_shortens_an_overlong_forearm():
    character = REFERENCE.copy()
    character[Joint.LEFT_WRIST] += (150, 150)
    source, target = track(DRIVING, PORTRAIT), track(character, LANDSCAPE)

    def forearm(points):
        return np.linalg.norm(points[Joint.LEFT_WRIST] - points[Joint.LEFT_ELBOW])

    free, limited = (body(retarget(source, target, None, limit))[0] for limit in (None, 1.2))
    assert forearm(free) > 3 * forearm(limited)
    usual = body(retarget(source, track(REFERENCE, LANDSCAPE)))[0]
    assert forearm(limited) < 1.5 * forearm(usual)
    unlimited = body(retarget(source, target, None, 1e6))[0]
    assert np.array_equal(free, unlimited)


def test_hands_follow_the_wrists_and_keep_their_shape():
    result = retarget(track(DRIVING, PORTRAIT), track(REFERENCE, LANDSCAPE))
    for points, wrist in (
        (result.left_hand, Joint.LEFT_WRIST),
        (result.right_hand, Joint.RIGHT_WRIST),
    ):
        pixels = to_pixels(points, *result.size)[0, :, :2]
        assert np.array_equal(pixels % 1, np.zeros_like(pixels))  # cut to whole pixels
        wanted = body(result)[0, wrist] + FAN * 35.057 / 50.249  # shoulder over shoulder, A16
        assert np.all(wanted - pixels < 1.01)
        assert np.all(wanted - pixels > -0.01)


def test_unsure_hand_points_are_dropped_but_the_root_still_leads():
    scores = np.full(21, 0.9)
    scores[[0, 5]] = 0.39
    sure = retarget(track(DRIVING, PORTRAIT), track(REFERENCE, LANDSCAPE)).left_hand[0]
    unsure = retarget(
        track(DRIVING, PORTRAIT, hand_scores=scores), track(REFERENCE, LANDSCAPE)
    ).left_hand[0]
    assert np.all(unsure[[0, 5]] == 0)
    kept = [point for point in range(21) if point not in (0, 5)]
    assert np.array_equal(unsure[kept], sure[kept])


def test_crossed_hands_go_to_the_wrist_they_are_at():
    left = hand(DRIVING[None, Joint.RIGHT_WRIST])
    right = hand(DRIVING[None, Joint.LEFT_WRIST])
    result = retarget(track(DRIVING, PORTRAIT, left=left, right=right), track(REFERENCE, LANDSCAPE))
    for points, wrist in (
        (result.left_hand, Joint.RIGHT_WRIST),
        (result.right_hand, Joint.LEFT_WRIST),
    ):
        root = to_pixels(points, *result.size)[0, 0, :2]
        assert np.abs(root - body(result)[0, wrist]).max() <= 1


def test_scores_boxes_and_misses_stay():
    scores = np.linspace(0.1, 1.0, 20)
    source = track(motion(), PORTRAIT, scores=scores, misses=(1,))
    result = retarget(source, track(REFERENCE, LANDSCAPE))
    assert np.array_equal(result.body[..., 2], source.body[..., 2])
    assert result.misses == (1,)
    assert not result.face.any()
    places = body(result)
    assert np.allclose(result.boxes[:, :2], places.min(1), atol=0.01)
    assert np.allclose(result.boxes[:, 2:4], places.max(1), atol=0.01)
    assert np.array_equal(result.boxes[:, 4], source.boxes[:, 4])


def test_bones_are_measured_in_the_first_frame_that_shows_the_person():
    moves = motion()
    lost = moves.copy()
    lost[0] = 5.0
    seen = retarget(track(moves[1:], PORTRAIT), track(REFERENCE, LANDSCAPE))
    late = retarget(track(lost, PORTRAIT, misses=(0,)), track(REFERENCE, LANDSCAPE))
    assert np.array_equal(late.body[1:], seen.body)


def test_edited_pictures_may_have_any_size():
    source, target = track(DRIVING, PORTRAIT), track(REFERENCE, LANDSCAPE)
    small = track(DRIVING * 0.9, PORTRAIT), track(REFERENCE * 0.9, LANDSCAPE)
    large = tuple(
        track(points * 1.8, (2 * width, 2 * height))
        for points, (width, height) in ((DRIVING, PORTRAIT), (REFERENCE, LANDSCAPE))
    )
    results = [body(retarget(source, target, pair)) for pair in (small, large)]
    assert np.abs(results[0] - results[1]).max() < 1.5  # the scaled picture has whole pixels


@pytest.mark.parametrize(
    ("inputs", "culprit"),
    [
        ({"driving": (0, 1, 2)}, "driving video"),
        ({"reference": (0,)}, "reference image"),
        ({"edited driving": (0,)}, "edited driving frame"),
        ({"edited reference": (0,)}, "edited reference image"),
    ],
)
def test_nobody_found_is_an_error_that_names_the_input(inputs, culprit):
    source = track(motion(), PORTRAIT, misses=inputs.get("driving", (1,)))
    target = track(REFERENCE, LANDSCAPE, misses=inputs.get("reference", ()))
    edited = (
        track(DRIVING, PORTRAIT, misses=inputs.get("edited driving", ())),
        track(REFERENCE, LANDSCAPE, misses=inputs.get("edited reference", ())),
    )
    with pytest.raises(InputError, match=f"found in the {culprit}"):
        retarget(source, target, edited)


@pytest.mark.parametrize("limit", [0.5, 0, -1, float("nan")])
def test_ratio_limit_below_one_is_an_error(limit):
    with pytest.raises(InputError, match="ratio_limit"):
        retarget(track(DRIVING, PORTRAIT), track(REFERENCE, LANDSCAPE), None, limit)
