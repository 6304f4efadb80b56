"""Rotary tables against diffusers' own module, and RIFLEx against the numbers of i2v.md A14."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wan_local.wan.errors import GeometryError, InputError
from wan_local.wan.geometry import LatentShape
from wan_local.wan.sample.rope import (
    Riflex,
    nearest_frequency,
    riflex_applies,
    rotary_tables,
    stretched_frequency,
    temporal_frequencies,
)

CPU = torch.device("cpu")
ALWAYS = Riflex(force=True)


def module(head_dim=128, positions=64, animate=False):
    from diffusers.models.transformers import transformer_wan, transformer_wan_animate

    source = transformer_wan_animate if animate else transformer_wan
    return source.WanRotaryPosEmbed(head_dim, (1, 2, 2), positions)


ROPES = {head_dim: module(head_dim) for head_dim in (24, 64, 128)}


def own(rope, shape):
    return rope(torch.empty(1, 1, shape.frames, shape.height, shape.width))


def assert_equal(ours, expected):
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@settings(max_examples=40)
@given(
    head_dim=st.sampled_from(sorted(ROPES)),
    frames=st.integers(1, 64),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
)
def test_tables_equal_those_of_diffusers(head_dim, frames, rows, columns):
    shape = LatentShape(frames, 2 * rows, 2 * columns)
    ours = rotary_tables(ROPES[head_dim], shape, None, CPU)
    assert_equal(ours, own(ROPES[head_dim], shape))
    assert ours[0].shape == (1, shape.tokens, 1, head_dim)


def test_tables_equal_those_of_the_animate_model():
    rope, shape = module(animate=True), LatentShape(21, 8, 6)
    assert_equal(rotary_tables(rope, shape, None, CPU), own(rope, shape))


def test_a14_temporal_frequencies():
    expected = [1, 0.65793322, 0.43287613, 0.28480359, 0.18738174, 0.12328467]
    assert temporal_frequencies(128)[:6] == pytest.approx(expected, abs=1e-8)
    assert len(temporal_frequencies(128)) == 22
    assert temporal_frequencies(24) == pytest.approx([1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize(
    ("frames", "frequency"),
    [(21, 0.26927937), (41, 0.13792358), (46, 0.12293189), (61, 0.09270273)],
)
def test_a14_stretched_frequency(frames, frequency):
    assert stretched_frequency(frames) == pytest.approx(frequency, abs=1e-8)


def test_a14_guarded_riflex_begins_at_46_latent_frames():
    assert [riflex_applies(Riflex(6), frames, 128) for frames in (21, 41, 45, 46, 61)] == [
        False, False, False, True, True,
    ]  # fmt: skip
    rope = ROPES[128]
    for frames, changes in ((21, False), (41, False), (46, True)):
        shape = LatentShape(frames, 2, 4)
        tables = zip(rotary_tables(rope, shape, Riflex(6), CPU), own(rope, shape), strict=True)
        assert all(torch.equal(*pair) is not changes for pair in tables)


def test_a14_forced_riflex_applies_at_any_length():
    assert riflex_applies(ALWAYS, 21, 128)
    assert not riflex_applies(None, 61, 128)


@pytest.mark.parametrize("frames", [21, 46])
def test_a14_only_columns_10_and_11_change(frames):
    rope, shape = ROPES[128], LatentShape(frames, 4, 4)
    expected = [frame * stretched_frequency(frames) for frame in range(frames) for _ in range(4)]
    waves = (math.cos, math.sin)
    pairs = zip(rotary_tables(rope, shape, ALWAYS, CPU), own(rope, shape), waves, strict=True)
    for ours, plain, wave in pairs:
        changed = (ours != plain).any(dim=1).flatten().nonzero().flatten().tolist()
        assert changed == [10, 11]
        for column in (10, 11):
            # Half a unit in the last place of float32 near 1.
            assert ours[0, :, 0, column].tolist() == pytest.approx(
                [wave(angle) for angle in expected], abs=6e-8
            )


def test_a14_nearest_frequency():
    assert nearest_frequency(128, 51) == (6, 51)
    assert nearest_frequency(128, 21) == (4, 22)


def test_without_a_number_the_frequency_fits_the_model():
    shape = LatentShape(60, 2, 2)
    for head_dim, k in ((128, 6), (24, 2)):
        rope = ROPES[head_dim]
        assert_equal(
            rotary_tables(rope, shape, Riflex(), CPU), rotary_tables(rope, shape, Riflex(k), CPU)
        )
    changed = (rotary_tables(rope, shape, Riflex(), CPU)[0] != own(rope, shape)[0]).any(dim=1)
    assert changed.flatten().nonzero().flatten().tolist() == [2, 3]


def test_riflex_leaves_the_model_alone():
    rope = module()
    before = rope.freqs_cos.clone(), rope.freqs_sin.clone()
    rotary_tables(rope, LatentShape(50, 2, 2), ALWAYS, CPU)
    assert_equal((rope.freqs_cos, rope.freqs_sin), before)


@pytest.mark.parametrize("k", [0, -1, 23])
def test_unknown_frequency_is_refused(k):
    with pytest.raises(InputError, match=f"k is {k}, and this model has 22") as error:
        rotary_tables(ROPES[128], LatentShape(21, 2, 2), Riflex(k), CPU)
    assert "Use 6" in error.value.fix


def test_video_longer_than_the_table_is_refused():
    with pytest.raises(GeometryError, match=r"65 latent frames.* 64") as error:
        rotary_tables(ROPES[128], LatentShape(65, 2, 2), None, CPU)
    assert "253 frames" in error.value.fix


@pytest.mark.parametrize(
    ("shape", "fix"),
    [(LatentShape(1, 130, 2), "height of 1024"), (LatentShape(1, 2, 130), "width of 1024")],
)
def test_picture_larger_than_the_table_is_refused(shape, fix):
    with pytest.raises(GeometryError, match=r"130 latent .* 128") as error:
        rotary_tables(ROPES[128], shape, None, CPU)
    assert fix in error.value.fix
