"""Where a person may be, from joints and box alone."""

import numpy as np
import pytest
from wan_local.wan.preprocess.mask.prior import MOST_ODDS, frame_prior, with_mask
from wan_local.wan.preprocess.pose.track import HAND_BONES, Joint, PoseTrack

SIZE = 200, 300
# A person who stands upright, facing us; shoulders 60 pixels wide, ears 30.
JOINTS = (
    "100,60 100,90 70,90 60,130 55,170 130,90 140,130 145,170 80,170 78,220 "
    "76,270 120,170 122,220 124,270 94,54 106,54 85,58 115,58 128,280 72,280"
)
PLACES = np.array([place.split(",") for place in JOINTS.split()], float)


def standing(unseen=(), box=(40, 25, 160, 290), hand=None, misses=(), size=SIZE):
    """A track of one frame; joints that are not seen have the score 0."""
    body = np.full((1, len(Joint), 3), 0.9, np.float32)
    body[0, :, :2] = PLACES / SIZE
    body[0, list(unseen), 2] = 0
    none, face = np.zeros((1, 21, 3), np.float32), np.zeros((1, 68, 3), np.float32)
    fingers = none.copy()
    if hand is not None:
        fingers[0, :, :2], fingers[0, :, 2] = hand / np.array(SIZE), 0.9
    boxes = np.array([(*box, 0.9) if box else (0, 0, *SIZE, -1)], np.float32)
    boxes[:, :4] *= np.tile(np.array(size) / SIZE, 2) if box else 1
    return PoseTrack(*size, body, fingers, none, face, boxes, misses)


def prior_of(track, scale=1):
    return frame_prior((SIZE[1] * scale, SIZE[0] * scale), track, 0)


def is_likely(prior, x, y):
    return bool(prior.odds[y, x] > 0)


def test_bones_are_sure_and_a_little_further_is_likely_and_far_is_impossible():
    prior = prior_of(standing())
    for joint in Joint:
        x, y = PLACES[joint].astype(int)
        assert prior.sure[y, x] or joint in (Joint.RIGHT_EAR, Joint.LEFT_EAR), joint
    assert is_likely(prior, 100, 130) and prior.sure[130, 100]  # the trunk is filled
    # beside the upper arm, in shoulder widths from the bone: 0.1 sure, 0.14 even, 0.64 impossible
    x, y = 65, 110
    assert prior.sure[y, x - 4] and not prior.sure[y, x - 9]
    assert is_likely(prior, x - 8, y) and not is_likely(prior, x - 12, y)
    prior = prior_of(standing(box=None))
    assert prior.possible[y, x - 36] and not prior.possible[y, x - 44]
    assert not prior.possible[10, 10]


def test_nothing_is_possible_outside_of_the_box_and_its_margin():
    prior = prior_of(standing(box=(60, 45, 150, 245)))
    # the margin is a twentieth of the longer side, 10 pixels; what is sure stays
    assert prior.possible[130, 51] and not prior.possible[130, 48]
    assert prior.possible[270, 76]  # an ankle below


def test_a_pose_is_scaled_to_the_picture():
    small, large = prior_of(standing()), prior_of(standing(), 2)
    there = large.odds[::2, ::2] > 0
    assert (there != (small.odds > 0)).mean() < 0.01
    other = prior_of(standing(size=(400, 600)))
    assert (other.odds == small.odds).all() and (other.possible == small.possible).all()


def test_a_hat_reaches_up_to_the_box():
    bare, capped = prior_of(standing(box=(40, 40, 160, 290))), prior_of(standing())
    assert not is_likely(bare, 100, 30) and is_likely(capped, 100, 30)
    assert not capped.sure[30, 100]
    # a box that ends far above the face is there for a raised arm or a second person
    assert not is_likely(prior_of(standing(box=(40, 5, 160, 290))), 100, 20)


def test_a_raised_hand_explains_the_box():
    hand = np.array([(140, 26)] * 21, float)
    assert not is_likely(prior_of(standing(hand=hand)), 100, 30)


def test_legs_and_trunk_that_end_out_of_sight_reach_down_to_the_box():
    knees = [Joint.RIGHT_KNEE, Joint.LEFT_KNEE, Joint.RIGHT_ANKLE, Joint.LEFT_ANKLE]
    knees += [Joint.RIGHT_TOE, Joint.LEFT_TOE]
    cut = prior_of(standing(knees, box=(40, 25, 160, 210)))
    assert is_likely(cut, 80, 200) and not cut.sure[200, 80]
    assert not is_likely(prior_of(standing(knees, box=None)), 80, 200)
    hips = [*knees, Joint.RIGHT_HIP, Joint.LEFT_HIP]
    bust = prior_of(standing(hips, box=(40, 25, 160, 160)))
    assert is_likely(bust, 100, 150) and not bust.sure[150, 100]
    assert not is_likely(prior_of(standing(hips, box=None)), 100, 150)


def test_hands_are_as_thick_as_their_palm():
    def hand(size):
        """Five straight fingers down from a wrist at 145, 170; the palm is `size` long."""
        points = np.zeros((21, 2))
        points[0] = 145, 170
        for finger in range(5):
            for step in range(4):
                points[1 + 4 * finger + step] = (
                    145 + (finger - 2) * size / 4,
                    170 + size * (1 + step / 4),
                )
        return points

    reach = []
    for size in (16, 32):
        prior = prior_of(standing(hand=hand(size), box=None))
        row = prior.odds[int(170 + 1.5 * size), 145:]
        assert row[0] > 0
        reach.append(int(np.flatnonzero(row < 0)[0]) - size / 2)
    assert reach[1] == pytest.approx(2 * reach[0], abs=1.5)
    assert len(HAND_BONES) == 20


def test_a_box_alone_says_that_the_middle_is_likelier():
    track = standing(range(len(Joint)), box=(40, 20, 160, 280))
    prior = prior_of(track)
    assert (
        is_likely(prior, 100, 25) and is_likely(prior, 100, 275) and not is_likely(prior, 45, 150)
    )
    assert not prior.sure.any()
    assert prior.possible[20:281, 40:161].all() and not prior.possible[:19].any()
    assert not prior.possible[:, :39].any() and not prior.possible[:, 162:].any()


def test_without_person_or_anything_sure_nothing_is_known():
    assert prior_of(standing(misses=(0,))) is None
    assert prior_of(standing(range(len(Joint)), box=None)) is None


def test_the_mask_of_the_frame_before_is_believed_by_its_depth_and_not_too_much():
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    reach = np.zeros_like(mask)
    reach[10:50, 10:50] = True
    prior = with_mask(None, mask, reach, 3.0)
    assert prior.odds.max() == 1.5 and prior.odds.min() == -1.5
    assert 0 < prior.odds[20, 30] < prior.odds[22, 30] < prior.odds[30, 30]
    assert (prior.possible == reach).all() and not prior.sure.any()
    # together with a pose it only tips the scale
    known = prior_of(standing())
    large = np.zeros(known.odds.shape, bool)
    large[:, 60:90] = True
    both = with_mask(known, large, large, 3.0)
    assert (both.possible == known.possible).all() and (both.sure == known.sure).all()
    assert both.odds - known.odds == pytest.approx(np.where(large, 1.5, -1.5), abs=1.6)
    assert both.odds[130, 75] > known.odds[130, 75] > -MOST_ODDS
