import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from wan_local.wan.errors import Cancelled, GeometryError, InputError
from wan_local.wan.preprocess.mask.shape import (
    binary_mask,
    block_mask,
    dilate_mask,
    mask_background,
    match_mask,
    preview,
)
from wan_local.wan.progress import Silent

masks = arrays(
    np.uint8,
    st.tuples(st.just(1), st.integers(1, 24), st.integers(1, 24)),
    elements=st.sampled_from([0, 0, 0, 0, 1]),
).map(torch.from_numpy)


def two_boxes():
    mask = torch.zeros(1, 20, 20, dtype=torch.uint8)
    mask[0, 5:12, 6:9] = 1
    mask[0, 8:15, 9:13] = 1
    assert mask.sum() == 49
    return mask


def box(mask):
    rows, columns = np.flatnonzero(mask[0].any(1)), np.flatnonzero(mask[0].any(0))
    return columns[0], columns[-1], rows[0], rows[-1]


def video(frames=4, height=6, width=8):
    return torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("kernel", "iterations", "pixels", "expected"),
    [
        (3, 1, 87, (5, 13, 4, 15)),
        (7, 1, 187, (3, 15, 2, 17)),
        (3, 2, 133, (4, 14, 3, 16)),
        (7, 3, 400, (0, 19, 0, 19)),
    ],
)
def test_a6_dilation(kernel, iterations, pixels, expected):
    grown = dilate_mask(two_boxes(), kernel, iterations)
    assert (grown.sum(), box(grown)) == (pixels, expected)


@given(masks, st.integers(1, 9), st.integers(1, 3))
def test_dilation_is_the_largest_value_around(mask, kernel, iterations):
    before, after = kernel // 2, kernel - 1 - kernel // 2
    expected = mask.float()[None]
    for _ in range(iterations):
        # Reaching `before` pixels to the right and down is seeing them to the left and above.
        padded = torch.nn.functional.pad(expected, (before, after, before, after))
        expected = torch.nn.functional.max_pool2d(padded, kernel, stride=1)
    grown = dilate_mask(mask, kernel, iterations)
    assert torch.equal(grown, expected[0].to(torch.uint8))
    assert (grown >= mask).all()
    assert bool(grown.any()) == bool(mask.any())


def test_dilation_reads_every_type_and_layout():
    mask = two_boxes()
    grown = dilate_mask(mask, 3, 2)
    for kind in (torch.bool, torch.int64, torch.float16, torch.bfloat16, torch.float64):
        assert torch.equal(dilate_mask(mask.to(kind), 3, 2), grown), kind
    assert torch.equal(dilate_mask(mask * 255, 3, 2), grown)
    assert torch.equal(dilate_mask(mask.transpose(1, 2), 3, 2), grown.transpose(1, 2))
    wide = mask.repeat_interleave(2, 2)[..., ::2]
    assert torch.equal(dilate_mask(wide, 3, 2), grown)


def test_an_even_kernel_reaches_further_right_and_down():
    mask = torch.zeros(1, 9, 9, dtype=torch.uint8)
    mask[0, 4, 4] = 1
    assert box(dilate_mask(mask, 4, 1)) == (3, 6, 3, 6)


def test_dilation_without_iterations_changes_nothing():
    assert torch.equal(dilate_mask(two_boxes(), 7, 0), two_boxes())


def test_every_frame_is_dilated_by_itself():
    mask = torch.cat([two_boxes(), two_boxes() * 0, two_boxes().transpose(1, 2)])
    grown = dilate_mask(mask, 3, 2)
    assert grown[1].sum() == 0
    assert torch.equal(grown[2], grown[0].T)


@pytest.mark.parametrize(
    ("columns", "rows", "pixels"),
    [(1, 1, 64), (2, 2, 61), (1, 3, 64), (3, 1, 64), (3, 3, 58), (5, 5, 49)],
)
def test_a7_blocks(columns, rows, pixels):
    assert block_mask(two_boxes(), columns, rows).sum() == pixels


def test_a7_the_last_row_and_column_keep_what_they_had():
    blocky = block_mask(two_boxes(), 1, 1)[0]
    assert blocky[5:14, 6:12].all()
    assert np.flatnonzero(blocky[:, 12]).tolist() == [*range(8, 15)]
    assert np.flatnonzero(blocky[14]).tolist() == [*range(9, 13)]


def test_a8_an_empty_mask_stays_empty():
    assert block_mask(torch.zeros(2, 9, 9), 3, 3).sum() == 0


def test_a8_a_mask_narrower_than_its_subdivisions():
    mask = torch.zeros(1, 20, 20, dtype=torch.uint8)
    mask[0, 4:16, 8:11] = 1
    mask[0, 6, 9] = 0
    assert (block_mask(mask, 5, 1) >= mask).all()
    point = torch.zeros(1, 5, 5, dtype=torch.uint8)
    point[0, 2, 2] = 1
    assert torch.equal(block_mask(point, 1, 1), point)


@given(masks, st.integers(1, 5), st.integers(1, 5))
def test_blocks_hold_the_mask_and_stay_in_its_box(mask, columns, rows):
    blocky = block_mask(mask, columns, rows)
    assert (blocky >= mask).all()
    if not mask.any():
        assert not blocky.any()
        return
    left, right, top, bottom = box(mask)
    assert box(blocky) == (left, right, top, bottom)
    wide, high = max(1, (right - left) // columns), max(1, (bottom - top) // rows)
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            expected = mask[0, y, x]
            if y < bottom and x < right:
                x0, y0 = left + (x - left) // wide * wide, top + (y - top) // high * high
                cell = mask[0, y0 : min(y0 + high, bottom), x0 : min(x0 + wide, right)]
                expected = cell.max()
            assert blocky[0, y, x] == expected


def test_a29_the_background_is_black_under_the_mask_and_else_the_frame():
    frames, mask = video(), torch.randint(0, 2, (4, 6, 8))
    background = mask_background(frames, mask)
    assert background.dtype == torch.uint8
    assert (background[mask == 1] == 0).all()
    assert torch.equal(background[mask == 0], frames[mask == 0])


def test_preview_shows_the_masked_area_half_red():
    frames, mask = video(), torch.zeros(4, 6, 8)
    mask[1, 2, 3] = 1
    shown = preview(frames, mask)
    assert torch.equal(shown[mask == 0], frames[mask == 0])
    assert shown[1, 2, 3].tolist() == [frames[1, 2, 3, 0] // 2 + 127, *(frames[1, 2, 3, 1:] // 2)]


def test_nothing_changes_its_inputs():
    frames, mask = video(), torch.randint(0, 2, (4, 6, 8), dtype=torch.uint8)
    copies = frames.clone(), mask.clone()
    dilate_mask(mask, 3, 1), dilate_mask(mask, 3, 0).zero_()
    block_mask(mask, 1, 1), mask_background(frames, mask), preview(frames, mask)
    assert torch.equal(frames, copies[0]) and torch.equal(mask, copies[1])


@pytest.mark.parametrize("single", [torch.ones(6, 8), torch.ones(1, 6, 8)])
def test_one_mask_serves_the_whole_video(single):
    assert match_mask(single, video()).shape == (4, 6, 8)
    assert not mask_background(video(), single).any()


@pytest.mark.parametrize(
    ("shape", "both"),
    [
        ((4, 6, 9), ("9x6", "8x6")),
        ((5, 6), ("6x5", "8x6")),
        ((3, 6, 8), ("3 frames", "has 4")),
        ((5, 6, 8), ("5 frames", "has 4")),
    ],
)
@pytest.mark.parametrize("use", [mask_background, preview])
def test_a_mask_of_another_size_or_length_names_both(use, shape, both):
    with pytest.raises(GeometryError) as error:
        use(video(), torch.ones(shape))
    assert all(size in error.value.what for size in both)


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (8,), (0, 6, 8)])
def test_what_is_no_mask_is_told(shape):
    with pytest.raises(GeometryError):
        binary_mask(torch.ones(shape))


@pytest.mark.parametrize("frames", [torch.zeros(4, 6, 8, 3), torch.zeros(4, 6, 8).byte()])
def test_frames_that_are_no_pixels_are_told(frames):
    with pytest.raises(GeometryError):
        mask_background(frames, torch.ones(6, 8))


def test_float_masks_are_set_from_half_on():
    values = torch.tensor([[0.0, 0.49, 0.5, 1.0, float("nan")]])
    assert binary_mask(values).tolist() == [[[0, 0, 1, 1, 0]]]
    assert binary_mask(values > 0.4).tolist() == [[[0, 1, 1, 1, 0]]]
    assert binary_mask(torch.tensor([[0, 1, 255]], dtype=torch.uint8)).tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda m: dilate_mask(m, 0, 1), "mask_kernel_size"),
        (lambda m: dilate_mask(m, 3, -1), "mask_iterations"),
        (lambda m: block_mask(m, 0, 1), "mask_w_subdivisions"),
        (lambda m: block_mask(m, 1, 0), "mask_h_subdivisions"),
    ],
)
def test_values_out_of_range_are_told(call, name):
    with pytest.raises(InputError, match=name):
        call(two_boxes())


class Stop(Silent):
    def start(self, phase, total):
        self.total, self.done = total, 0

    def update(self, done, preview=None):
        self.done = done
        if done == 2:
            raise Cancelled


@pytest.mark.parametrize(
    "call",
    [
        lambda m, r: dilate_mask(m, 3, 1, r),
        lambda m, r: block_mask(m, 1, 1, r),
        lambda m, r: mask_background(video(), m, r),
        lambda m, r: preview(video(), m, r),
    ],
)
def test_each_frame_is_reported_and_can_cancel(call):
    reporter = Stop()
    with pytest.raises(Cancelled):
        call(torch.ones(4, 6, 8), reporter)
    assert (reporter.total, reporter.done) == (4, 2)
