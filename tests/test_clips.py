"""The clip plan: every frame exactly once, in order."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.clips import CARRY_CHOICES, check_clip, plan_clips, reflect
from wan_local.wan.errors import GeometryError, InputError


@pytest.mark.parametrize(
    ("frames", "clip_len", "carry", "target", "starts"),
    [
        (77, 77, 1, 77, [0]),
        (78, 77, 1, 153, [0, 76]),
        (10, 77, 1, 77, [0]),
        (154, 77, 1, 229, [0, 76, 152]),
        (149, 77, 5, 149, [0, 72]),
        (150, 77, 5, 221, [0, 72, 144]),
        (300, 77, 5, 365, [0, 72, 144, 216, 288]),
        (9, 5, 1, 9, [0, 4]),
        (122, 121, 5, 237, [0, 116]),
        (1, 77, 1, 77, [0]),
        (3, 77, 5, 77, [0]),
        (5, 77, 5, 77, [0]),
    ],
)
def test_a22_schedule(frames, clip_len, carry, target, starts):
    plan = plan_clips(frames, clip_len, carry)
    padded = [reflect(index, frames) for index in range(target)]
    assert [list(clip.sources) for clip in plan] == [padded[s : s + clip_len] for s in starts]
    assert starts[-1] + clip_len == target
    assert sum(clip.kept for clip in plan) == frames


clip_lens = st.integers(1, 30).map(lambda n: 4 * n + 1)
carries = st.sampled_from(CARRY_CHOICES)


@given(st.integers(1, 400), clip_lens, carries)
def test_every_frame_is_made_once_and_in_order(frames, clip_len, carry):
    if clip_len <= carry:
        return
    made = []
    for clip in plan_clips(frames, clip_len, carry):
        assert len(clip.sources) == clip_len and clip.kept > 0
        assert clip.carried == (carry if clip.number else 0)
        made += clip.sources[clip.carried : clip.carried + clip.kept]
    assert made == list(range(frames))


@given(st.integers(1, 400), clip_lens, carries)
def test_what_is_carried_are_the_last_frames_of_the_clip_before(frames, clip_len, carry):
    if clip_len <= carry:
        return
    plan = plan_clips(frames, clip_len, carry)
    for before, after in pairwise(plan):
        assert before.sources[-carry:] == after.sources[:carry]
        # The clip before was no padding there: frames of the driving video itself are handed on.
        assert before.carried + before.kept == clip_len


@given(st.integers(2, 400), clip_lens, carries)
def test_a_continued_video_makes_all_but_the_given_frames(frames, clip_len, carry):
    if clip_len <= carry or frames <= carry:
        return
    made = []
    for clip in plan_clips(frames, clip_len, carry, continues=True):
        assert clip.carried == carry
        made += clip.sources[clip.carried : clip.carried + clip.kept]
    assert made == list(range(carry, frames))


def test_a23_padding_goes_back_and_forth():
    assert [reflect(n, 5) for n in range(12)] == [0, 1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3]
    assert [reflect(n, 2) for n in range(6)] == [0, 1, 0, 1, 0, 1]
    assert [reflect(n, 1) for n in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("clip_len", "carry", "error", "advice"),
    [
        (80, 1, GeometryError, "77 or 81"),
        (78, 1, GeometryError, "77 or 81"),
        (0, 1, GeometryError, "5 or 9"),
        (5, 5, GeometryError, "9 or more"),
        (1, 1, GeometryError, "5 or more"),
        (77, 2, InputError, "Use 1, or 5"),
    ],
)
def test_a22_wrong_lengths_name_the_right_ones(clip_len, carry, error, advice):
    for call in (check_clip, lambda *a: plan_clips(100, *a)):
        with pytest.raises(error) as found:
            call(clip_len, carry)
        assert advice in found.value.fix


def test_nothing_to_make_is_told():
    with pytest.raises(GeometryError, match="0 frames"):
        plan_clips(0, 77, 1)
    with pytest.raises(GeometryError, match="5 frames, of which 5 are given"):
        plan_clips(5, 77, 5, continues=True)
    assert plan_clips(6, 77, 5, continues=True)[0].kept == 1
