import numpy as np
import pytest
from wan_local.wan.preprocess.pose.face import find_faces
from wan_local.wan.preprocess.pose.overlay import draw_overlay, draw_overlays
from wan_local.wan.preprocess.pose.skeleton import (
    draw_frame,
    draw_skeleton,
    draw_track,
    stick_widths,
)
from wan_local.wan.preprocess.pose.track import PoseTrack, to_fractions
from wan_local.wan.progress import Silent

# animate.md, check A15
J = (
    (240, 120), (240, 200), (190, 205), (170, 300), (160, 390), (290, 205), (310, 300),
    (320, 390), (210, 400), (205, 540), (200, 680), (270, 400), (275, 540), (280, 680),
    (228, 108), (252, 108), (212, 115), (268, 115), (290, 720), (190, 720),
)  # fmt: skip
NO_HAND = np.zeros((21, 3))


def body(score=0.9):
    return np.array([(x, y, score) for x, y in J], np.float64)


def hand(x, y, score=0.9):
    steps = np.arange(21)
    return np.stack([x + steps % 5 * 8, y + steps // 5 * 8, np.full(21, score)], axis=1)


def track(width=480, height=832, frames=2, score=0.9):
    points = to_fractions(body(score), 480, 832)
    hands = [to_fractions(hand(*place), 480, 832) for place in ((330, 400), (100, 400))]
    corners = np.array([[200 + i % 9 * 9, 90 + i // 9 * 9, score] for i in range(68)])
    face = to_fractions(corners, 480, 832)
    boxes = np.tile(np.array([150, 60, 340, 760, score], np.float32), (frames, 1))
    parts = (np.repeat(part[None], frames, axis=0) for part in (points, *hands, face))
    return PoseTrack(width, height, *parts, boxes)


@pytest.mark.parametrize(
    "width, height, wanted",
    [
        (480, 832, (1, 1)),
        (1280, 720, (2, 1)),
        (600, 600, (2, 1)),
        (1200, 1200, (5, 2)),
        (1920, 1080, (4, 2)),
    ],
)
def test_a14_stick_widths(width, height, wanted):
    assert stick_widths(width, height) == wanted


def test_a15_skeleton_pixels():
    picture = draw_skeleton(body(), NO_HAND, NO_HAND, 480, 832)
    assert picture.shape == (832, 480, 3) and picture.dtype == np.uint8
    wanted = {
        (240, 120): (255, 0, 0),
        (240, 160): (0, 0, 153),
        (180, 252): (153, 102, 0),
        (225, 300): (0, 153, 0),
        (285, 700): (153, 0, 51),
        (195, 700): (120, 120, 0),
        (290, 720): (200, 200, 0),
        (280, 680): (85, 0, 255),
    }
    assert {(x, y): tuple(picture[y, x].tolist()) for x, y in wanted} == wanted
    assert picture.any(axis=2).sum() == pytest.approx(4448, rel=0.02)


def test_a15_threshold_is_a_half_and_included():
    drawn = draw_skeleton(body(0.9), NO_HAND, NO_HAND, 480, 832)
    assert not draw_skeleton(body(0.49), NO_HAND, NO_HAND, 480, 832).any()
    assert (draw_skeleton(body(0.5), NO_HAND, NO_HAND, 480, 832) == drawn).all()
    lower = draw_skeleton(body(0.49), NO_HAND, NO_HAND, 480, 832, threshold=0.4)
    assert (lower == drawn).all()


def test_a15_hand_points_are_blue_on_rainbow_bones():
    nothing = np.zeros((20, 3))
    picture = draw_skeleton(nothing, hand(100, 200), hand(300, 200), 480, 832)
    for x in (100, 300):
        # points 1 and 6 of this hand lie 8 pixels to the right and below
        assert tuple(picture[200, x]) == (0, 0, 255)
        assert tuple(picture[200, x + 8]) == (0, 0, 255)
    assert tuple(picture[200, 104]) == (255, 0, 0)  # first bone, hue 0
    assert (picture[:, :240] == picture[:, 200:440]).all()  # both hands alike


def test_hand_points_in_the_first_pixel_row_or_column_are_unseen():
    points = hand(100, 200)
    points[3] = (0.9, 210, 0.9)
    points[4] = (110, -3, 0.9)
    picture = draw_skeleton(np.zeros((20, 3)), points, NO_HAND, 480, 832)
    assert not picture[:, :90].any() and not picture[:190].any()


def test_limb_needs_both_ends_and_its_points_only_themselves():
    points = body()
    points[3, 2] = 0.3  # right elbow
    picture = draw_skeleton(points, NO_HAND, NO_HAND, 480, 832)
    assert not picture[252, 180].any() and not picture[300, 170].any()
    assert picture[390, 160].any()


def test_head_and_feet_are_drawn_and_the_face_is_not():
    with_face, without = track(), track(frames=1)
    without.face[..., 2] = 0
    picture = draw_frame(with_face, 0)
    assert picture[115, 212].any() and picture[720, 190].any()
    assert (picture == draw_frame(without, 0)).all()


@pytest.mark.parametrize("far", [1e9, -1e9, np.nan, np.inf, 1e38])
def test_points_far_outside_do_not_break_the_drawing(far):
    points = body()
    points[4, :2] = far
    wrist = draw_skeleton(points, hand(far, 10), NO_HAND, 480, 832)
    points[4, 2] = 0
    assert (wrist == draw_skeleton(points, NO_HAND, NO_HAND, 480, 832)).all()


def test_points_a_little_outside_are_cut_at_the_edge():
    points = body()
    points[4, 0] = -40
    assert draw_skeleton(points, NO_HAND, NO_HAND, 480, 832)[:, 0].any()


def test_track_goes_through_fractions_without_moving():
    direct = draw_skeleton(body(), hand(330, 400), hand(100, 400), 480, 832)
    assert (draw_frame(track(), 1) == direct).all()


def test_canvas_decides_the_stick_width():
    wide = draw_frame(track(), 0, 1200, 1200)
    assert wide.shape == (1200, 1200, 3)
    x, y = 240 * 1200 // 480, round(120 * 1200 / 832)
    assert (wide[y, x - 5 : x + 6] == (255, 0, 0)).all() and not wide[y, x - 9].any()


def test_every_frame_is_drawn_and_told():
    class Recorder(Silent):
        done = 0

        def update(self, done, preview=None):
            self.done = done

    recorder = Recorder()
    video = draw_track(track(frames=3), reporter=recorder)
    assert video.shape == (3, 832, 480, 3) and recorder.done == 3
    assert (video[2] == draw_frame(track(), 0)).all()


def test_overlay_shows_skeleton_and_boxes_over_the_frame():
    poses = track()
    frame = np.full((832, 480, 3), 100, np.uint8)
    faces = find_faces(poses)
    picture = draw_overlay(frame, poses, 0, faces)
    assert tuple(picture[20, 20]) == (50, 50, 50)
    assert tuple(picture[120, 240]) == (255, 0, 0)
    assert tuple(picture[400, 150]) == (255, 255, 255)
    x0, y0, _, y1 = faces.boxes[0]
    assert tuple(picture[(y0 + y1) // 2, x0]) == (255, 220, 0)
    bare = draw_overlay(frame, poses, 0)
    assert not (bare == (255, 220, 0)).all(axis=2).any()


def test_overlay_marks_what_was_missed_in_red():
    poses = track()
    poses = PoseTrack(
        480,
        832,
        poses.body,
        poses.left_hand,
        poses.right_hand,
        poses.face * (1, 1, 0) * 0,  # all face points equal: no face
        np.tile(np.array([0, 0, 480, 832, -1], np.float32), (2, 1)),
        (0,),
    )
    frames = np.full((2, 832, 480, 3), 100, np.uint8)
    first, second = draw_overlays(frames, poses, find_faces(poses))
    red, white = (255, 60, 60), (255, 255, 255)
    for side in (first[0], first[-1], first[:, 0], first[:, -1]):
        assert (side == red).all(axis=-1).any()
    assert (second[0] == white).all(axis=-1).any()
    assert (second == red).all(axis=-1).any()  # the face's fallback box
