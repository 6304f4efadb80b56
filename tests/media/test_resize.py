import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.errors import GeometryError
from wan_local.wan.media import resize
from wan_local.wan.media.resize import (
    FrameFit,
    letterbox,
    resize_by_area,
    resize_to,
)
from wan_local.wan.media.turn import quarter_turn, turn_upright
from wan_local.wan.progress import Silent

A720, A480 = 1280 * 720, 832 * 480


def solid(width, height, value=200):
    return np.full((height, width, 3), value, np.uint8)


def content(picture):
    """First and last column and row of a picture that are not black."""
    rows, columns = np.flatnonzero(picture.any((1, 2))), np.flatnonzero(picture.any((0, 2)))
    return columns[0], columns[-1], rows[0], rows[-1]


@pytest.mark.parametrize(
    ("width", "height", "area", "expected"),
    [
        (1280, 720, A720, (1280, 720)),
        (720, 1280, A720, (720, 1280)),
        (640, 480, A720, (1104, 816)),
        (512, 512, A720, (960, 960)),
        (1000, 1500, A720, (768, 1168)),
        (853, 480, A720, (1264, 720)),
        (1080, 1350, A720, (848, 1072)),
        (1920, 1080, A480, (832, 464)),
        (1024, 1024, A480, (624, 624)),
        (600, 800, 512 * 512, (432, 576)),
        (300, 900, 512 * 512, (288, 880)),
        (1920, 1080, 1920 * 1080, (1920, 1072)),
    ],
)
def test_a3_size_from_area(width, height, area, expected):
    assert resize_by_area(solid(width, height), area).shape == (expected[1], expected[0], 3)


def test_a4_noise_takes_no_step_of_16_away():
    picture = np.random.default_rng(0).integers(0, 256, (832, 480, 3), np.uint8)
    assert np.array_equal(resize_by_area(picture, 832 * 480), picture)


def test_a5_letterbox_of_a_reference():
    resized = resize_by_area(solid(1000, 1500), A720)
    assert content(resized) == (0, 767, 8, 1159)
    assert set(np.unique(resized)) == {0, 200}


@pytest.mark.parametrize(
    ("source", "target", "columns", "rows"),
    [
        ((100, 50), (64, 64), (0, 63), (16, 47)),
        ((50, 100), (64, 64), (16, 47), (0, 63)),
        ((300, 200), (128, 64), (16, 111), (0, 63)),
        ((33, 77), (80, 48), (30, 49), (0, 47)),
        ((101, 50), (64, 64), (0, 63), (16, 46)),
    ],
)
def test_a5_letterbox_places(source, target, columns, rows):
    resized = letterbox(solid(*source), *target)
    assert resized.shape == (target[1], target[0], 3)
    assert content(resized) == (*columns, *rows)


# The reference leaves a black row or column here: int(832 / 1440 * 1080) is 623.
@pytest.mark.parametrize(
    ("source", "target"), [((1440, 1080), (832, 624)), ((1000, 1500), (288, 432))]
)
def test_a_picture_of_the_same_aspect_gets_no_black_line(source, target):
    assert letterbox(solid(*source), *target).min() == 200


def test_shrinking_averages_and_growing_interpolates():
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.unique(resize_to(stripes, 20, 20)) == [100]
    # Exactly a third, bilinearly: every third pixel by itself.
    assert set(np.unique(letterbox(stripes[:39, :39], 13, 13))) == {0, 200}
    edge = np.zeros((2, 2, 3), np.uint8)
    edge[:, 1] = 200
    assert resize_to(edge, 4, 4)[0, :, 0].tolist() == [0, 50, 150, 200]


def test_as_many_pixels_are_interpolated_as_in_the_reference():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert np.array_equal(resize_to(picture, 20, 30), letterbox(picture, 20, 30))
    assert not np.array_equal(
        resize_to(picture, 20, 29), letterbox(picture, 20, 29, averaging=False)
    )


def test_tensors_masks_and_single_channels_keep_their_kind():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    resized = letterbox(torch.from_numpy(picture), 16, 16)
    assert isinstance(resized, torch.Tensor)
    assert np.array_equal(resized.numpy(), letterbox(picture, 16, 16))
    assert letterbox(picture[:, :, 0], 16, 16).shape == (16, 16)
    assert letterbox(picture[:, :, :1], 16, 16).shape == (16, 16, 1)


def test_views_are_resized_like_copies_and_stay_as_they_are():
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    before = picture.copy()
    for view in (picture[::-1], picture[:, ::-1], picture.transpose(1, 0, 2), picture[2:30, 3:40]):
        assert np.array_equal(letterbox(view, 24, 16), letterbox(view.copy(), 24, 16))
    assert np.array_equal(picture, before)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_letterbox_touches_two_sides_and_is_centred(width, height, wanted_width, wanted_height):
    resized = letterbox(solid(width, height), wanted_width, wanted_height)
    left, right, top, bottom = content(resized)
    margins_x, margins_y = (left, wanted_width - 1 - right), (top, wanted_height - 1 - bottom)
    assert margins_x == (0, 0) or margins_y == (0, 0)
    for first, second in (margins_x, margins_y):
        assert first <= second <= first + 1


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        (solid(4, 4).astype(np.float32), (16, 16)),
        (solid(4, 4)[None], (16, 16)),
        (np.zeros((0, 4, 3), np.uint8), (16, 16)),
        (solid(4, 4), (0, 16)),
    ],
)
def test_what_cannot_be_resized_is_told(picture, size):
    with pytest.raises(GeometryError):
        letterbox(picture, *size)


@pytest.mark.parametrize("resize", [(32, 16), lambda frame: resize_to(frame, 32, 16)])
def test_frames_are_fitted_by_size_or_function(resize):
    fit = FrameFit(resize, 100, 40)
    assert (fit.width, fit.height) == (32, 16)
    assert np.array_equal(fit(solid(100, 40)), resize_to(solid(100, 40), 32, 16))


def test_a_frame_of_another_size_is_told():
    with pytest.raises(GeometryError, match=r"10x20.*30x20"):
        FrameFit(None, 30, 20)(solid(10, 20))
    assert FrameFit((32, 16), 30, 20)(solid(10, 20)).shape == (16, 32, 3)


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_much_memory_is_announced(monkeypatch):
    notes = Notes()
    fit = FrameFit(None, 1280, 720)
    assert fit.allocate(724, notes).shape == (724, 720, 1280, 3)
    assert len(notes.notes) == 1 and "2.0 GB" in notes.notes[0] and "1280x720" in notes.notes[0]
    monkeypatch.setattr(resize, "MUCH_MEMORY", 2 * 720 * 1280 * 3)
    fit.allocate(2, notes)
    assert len(notes.notes) == 1
    fit.allocate(3, notes)
    assert len(notes.notes) == 2


# 1 2     What the display matrix (a, b, u, c, d, ...) makes of it, by hand: x' = a x + c y and
# 3 4     y' = b x + d y, moved back to the corner.
@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), [[1, 2], [3, 4]]),
        ((0, 1, -1, 0), [[3, 1], [4, 2]]),
        ((-1, 0, 0, -1), [[4, 3], [2, 1]]),
        ((0, -1, 1, 0), [[2, 4], [1, 3]]),
        ((-1, 0, 0, 1), [[2, 1], [4, 3]]),
        ((1, 0, 0, -1), [[3, 4], [1, 2]]),
        ((0, 1, 1, 0), [[1, 3], [2, 4]]),
        ((0, -1, -1, 0), [[4, 2], [3, 1]]),
    ],
)
def test_display_matrices(matrix, shown):
    a, b, c, d = (65536 * n for n in matrix)
    turn = quarter_turn(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32))
    picture = np.array([[1, 2], [3, 4]], np.uint8)[..., None]
    assert turn == matrix
    assert turn_upright(picture, turn)[..., 0].tolist() == shown


def test_without_a_display_matrix_nothing_turns():
    picture = solid(4, 2)
    assert turn_upright(picture, quarter_turn(None)) is picture
