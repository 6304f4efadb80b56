"""Two videos beside each other, a wipe, a grid, and lists of values."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.errors import InputError
from wan_local.wan.media.compare import LAYOUTS, compare, grid
from wan_local.wan.media.values import MOST_VALUES, read_values

RED, BLUE = (200, 10, 10), (10, 10, 200)
SIDE, ABOVE, WIPE, MOVING = LAYOUTS


def video(colour, count=4, height=32, width=48):
    return np.full((count, height, width, 3), colour, np.uint8)


def is_all(picture, colour):
    return bool((picture == np.array(colour)).all())


@pytest.mark.parametrize(("layout", "shape"), [(SIDE, (32, 96)), (ABOVE, (64, 48))])
def test_both_are_shown_whole(layout, shape):
    made = compare(video(RED), video(BLUE), layout)
    frame = made[0]
    assert len(made) == 4 and frame.shape == (*shape, 3)
    first, second = np.split(frame, 2, axis=1 if layout == SIDE else 0)
    assert is_all(first, RED) and is_all(second, BLUE)


@pytest.mark.parametrize("position", [0.0, 0.25, 0.5, 1.0])
def test_a_wipe_shows_the_first_left_of_its_line(position):
    frame = compare(video(RED), video(BLUE), WIPE, position)[1]
    column = round(position * 48)
    assert frame.shape == (32, 48, 3)
    assert is_all(frame[:, : max(0, column - 1)], RED) and is_all(frame[:, column:], BLUE)
    has_line = is_all(frame[:, column - 1], (255, 255, 255)) if 0 < column < 48 else None
    assert has_line in (True, None)


def test_a_moving_wipe_goes_from_side_to_side():
    made = compare(video(RED, 100), video(BLUE, 100), MOVING)
    red = [int((made[n][0] == np.array(RED)).all(-1).sum()) for n in range(100)]
    assert red[0] == 0 and red[48] == 48 and red[96] == 0
    assert all(a <= b + 1 for a, b in pairwise(red[:49]))


def test_the_shorter_stands_still_and_the_second_takes_the_size_of_the_first():
    first, second = video(RED, 2), video(BLUE, 5, 64, 64)
    first[0], second[4] = 50, 99
    made = compare(first, second)
    assert len(made) == 5 and made[4].shape == (32, 96, 3)
    assert is_all(made[4][:, :48], RED)
    middle = made[4][:, 48 + 8 : 96 - 8]
    assert is_all(middle, (99, 99, 99)) and is_all(made[4][:, 48:55], (0, 0, 0))  # bars


def test_labels_are_written_and_nothing_else_changes():
    plain, labelled = (
        compare(video(RED), video(BLUE), labels=t)[0] for t in [("", ""), ("A", "B")]
    )
    changed = (plain != labelled).any(-1)
    assert changed[:, :48].any() and changed[:, 48:].any() and not changed[:16].any()
    given_frames = video(RED)
    compare(given_frames, video(BLUE), WIPE, labels=("A", "B"))[0]
    assert is_all(given_frames, RED)  # what came in stays as it is


def test_bad_comparisons_are_refused():
    with pytest.raises(InputError, match="layout"):
        compare(video(RED), video(BLUE), "inside out")
    with pytest.raises(InputError, match=r"1\.5"):
        compare(video(RED), video(BLUE), WIPE, 1.5)


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [
        (1, 0, (1, 1)),
        (3, 0, (2, 2)),
        (5, 0, (2, 3)),
        (3, 3, (1, 3)),
        (3, 1, (3, 1)),
        (2, 9, (1, 2)),
    ],
)
def test_a_grid_has_a_place_for_each(count, columns, shape):
    videos = [video((10 * n, 0, 0), 2 + n) for n in range(count)]
    made = grid(videos, [str(n) for n in range(count)], columns)
    assert len(made) == count + 1
    sheet = made[0]
    assert sheet.shape == (shape[0] * 32, shape[1] * 48, 3)
    for n in range(count):
        top, left = n // shape[1] * 32, n % shape[1] * 48
        cell = sheet[top : top + 32, left : left + 48]
        assert is_all(cell[:16], (10 * n, 0, 0)) and not is_all(cell, (10 * n, 0, 0))


def test_a_grid_without_videos_or_with_wrong_labels_is_refused():
    with pytest.raises(InputError, match="no videos"):
        grid([])
    with pytest.raises(InputError, match="2 videos and 1 labels"):
        grid([video(RED), video(BLUE)], ["a"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("3, 5, 8", [3, 5, 8]),
        ("0.5,1", [0.5, 1]),
        ("5.0", [5]),
        ("unipc, dpm++", ["unipc", "dpm++"]),
        ("true, False", [True, False]),
        ("1 to 3", [1, 2, 3]),
        ("1 to 2 by 0.25", [1, 1.25, 1.5, 1.75, 2]),
        ("0 to 0.3 by 0.1", [0, 0.1, 0.2, 0.3]),
        ("0, 2 to 3, 9", [0, 2, 3, 9]),
        ("a cat, sitting\na dog, running", ["a cat, sitting", "a dog, running"]),
        (" 7 ,\n", [7]),
        ("-1", [-1]),
    ],
)
def test_lists_are_read_as_people_write_them(text, values):
    found = read_values(text)
    assert found == values and [type(v) for v in found] == [type(v) for v in values]


@pytest.mark.parametrize("text", ["", " , ", "3 to 1", "1 to 2 by 0", "0 to 1000", "1," * 65])
def test_lists_that_cannot_be_used_are_refused(text):
    with pytest.raises(InputError):
        read_values(text)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=MOST_VALUES))
def test_whole_numbers_come_back(numbers):
    assert read_values(", ".join(map(str, numbers))) == numbers
