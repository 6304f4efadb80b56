import pytest
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.errors import GeometryError, InputError
from wan_local.wan.geometry import (
    fit_area,
    latent_frames,
    latent_shape,
    parse_size,
    round_frames,
)

A480 = 832 * 480
A720 = 1280 * 720


@pytest.mark.parametrize(
    ("width", "height", "area", "expected"),
    [
        (832, 480, A480, (832, 480)),
        (480, 832, A480, (480, 832)),
        (1280, 720, A480, (832, 464)),
        (1024, 1024, A480, (624, 624)),
        (1920, 1080, A480, (832, 464)),
        (512, 768, A480, (512, 768)),
        (1500, 500, A480, (1088, 352)),
        (832, 480, A720, (1248, 720)),
        (1280, 720, A720, (1280, 720)),
        (720, 1280, A720, (720, 1280)),
        (1024, 1024, A720, (960, 960)),
        (1500, 500, A720, (1648, 544)),
        (640, 360, A720, (1280, 720)),
    ],
)
def test_a18_size_by_area(width, height, area, expected):
    assert fit_area(width, height, area) == expected


@given(st.integers(16, 4000), st.integers(16, 4000), st.integers(64, 4000), st.integers(64, 4000))
def test_a18_orientation_of_the_area_does_not_matter_and_it_is_not_exceeded(w, h, a, b):
    try:
        size = fit_area(w, h, a * b)
    except GeometryError:
        return
    assert size == fit_area(w, h, b * a)
    assert size[0] * size[1] <= a * b
    assert size[0] % 16 == 0 and size[1] % 16 == 0


@pytest.mark.parametrize("text", ["832x480", "832*480", "832X480", " 832 x 480 ", "832×480"])
def test_a19_size_strings_that_are_read(text):
    assert parse_size(text) == (832, 480)


@pytest.mark.parametrize("text", ["832", "x480", "-1x480", "", "832x", "big", "832x480x3", None])
def test_a19_size_strings_that_are_refused(text):
    with pytest.raises(InputError) as error:
        parse_size(text)
    assert repr(text) in error.value.what and "832x480" in error.value.fix


@pytest.mark.parametrize(
    ("asked", "made"),
    [(1, 1), (3, 1), (4, 5), (5, 5), (16, 17), (79, 77), (80, 81), (81, 81), (82, 81), (83, 81),
     (84, 85), (120, 121)],
)  # fmt: skip
def test_a20_frames_are_4n_plus_1(asked, made):
    assert round_frames(asked) == made


def test_a20_latent_frames():
    assert latent_frames(81) == 21
    assert latent_frames(161) == 41
    assert latent_frames(1) == 1


@pytest.mark.parametrize("frames", [0, 2, 80, 82])
def test_other_frame_counts_name_the_nearest(frames):
    with pytest.raises(GeometryError) as error:
        latent_frames(frames)
    assert str(frames) in error.value.what
    assert all(int(n) % 4 == 1 for n in error.value.fix.strip(".").split() if n.isdigit())


def test_tokens_of_the_two_usual_sizes():
    assert latent_shape(832, 480, 81).tokens == 32760
    assert latent_shape(1280, 720, 81).tokens == 75600


def test_size_off_the_step_names_the_nearest():
    with pytest.raises(GeometryError) as error:
        latent_shape(833, 480, 81)
    assert "833" in error.value.what and "832 or 848" in error.value.fix


def test_image_too_narrow_for_the_area():
    with pytest.raises(GeometryError):
        fit_area(1, 5000, 64 * 64)
