import pytest
import torch
from wan_local.wan.geometry import LatentShape
from wan_local.wan.seeds import MAX_DRAWN_SEED, draw_noise, make_generator, resolve_seed


def test_a24_noise_of_seed_42():
    noise = draw_noise(LatentShape(21, 60, 104), make_generator(42))
    assert noise.shape == (1, 16, 21, 60, 104) and noise.dtype is torch.float32
    first = noise.flatten()[:4].tolist()
    assert first == pytest.approx([1.92692, 1.48728, 0.90072, -2.10552], abs=1e-5)


def test_a24_another_frame_count_is_other_noise():
    short = draw_noise(LatentShape(21, 60, 104), make_generator(42))
    long = draw_noise(LatentShape(22, 60, 104), make_generator(42))
    assert not torch.equal(long[:, :, :21], short)


@pytest.mark.parametrize("asked", [-1, -7, None])
def test_seeds_below_zero_are_drawn_anew_each_time(asked):
    drawn = {resolve_seed(asked) for _ in range(8)}
    assert len(drawn) > 1
    assert all(0 <= seed <= MAX_DRAWN_SEED for seed in drawn)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_seeds_from_zero_are_used_as_they_are(seed):
    assert resolve_seed(seed) == seed
    make_generator(seed)
