import pytest
import torch
from wan_local.wan.decode import colour
from wan_local.wan.decode.colour import check_match, measure_palette
from wan_local.wan.errors import InputError


def frames(seed=0, spread=0.2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 20, 30, 3, generator=generator) * spread


def match_palette(given, target):
    colour.match_palette(given, measure_palette(given), target)


def test_a_palette_is_mean_and_covariance():
    given = frames()
    palette, pixels = measure_palette(given), given.reshape(-1, 3).double()
    assert torch.allclose(palette.mean, pixels.mean(0), atol=1e-9)
    assert torch.allclose(palette.covariance, pixels.T.cov(correction=0), atol=1e-9)


def test_matched_frames_have_the_palette():
    mix = torch.tensor([[0.8, 0.2, 0.0], [0.1, 1.1, 0.1], [0.0, -0.1, 0.7]])
    drifted = frames() @ mix + torch.tensor([0.1, -0.05, 0.0])
    target = measure_palette(frames(1, 0.15))
    match_palette(drifted, target)
    found = measure_palette(drifted)
    assert torch.allclose(found.mean, target.mean, atol=1e-5)
    assert torch.allclose(found.covariance, target.covariance, atol=1e-5)


def test_a_drift_of_gain_and_offset_is_taken_back():
    given = frames()
    drifted = given * torch.tensor([1.2, 1.0, 0.9]) + torch.tensor([0.05, 0.0, -0.1])
    match_palette(drifted, measure_palette(given))
    assert torch.allclose(drifted, given, atol=2e-3)


def test_frames_that_match_already_stay():
    given = frames()
    same = given.clone()
    match_palette(same, measure_palette(given))
    assert torch.allclose(same, given, atol=1e-5)


def test_one_colour_is_moved_and_nothing_breaks():
    flat = torch.full((1, 4, 4, 3), 0.5)
    match_palette(flat, measure_palette(torch.full((1, 4, 4, 3), -0.25)))
    assert torch.allclose(flat, torch.tensor(-0.25), atol=1e-5)
    match_palette(flat, measure_palette(frames()))
    assert torch.isfinite(flat).all()


def test_the_range_is_kept():
    given = frames(spread=0.5)
    match_palette(given, measure_palette(frames(1, 1.5)))
    assert given.abs().max() <= 1


def test_another_choice_is_named():
    check_match("first clip")
    with pytest.raises(InputError, match="first clip, reference"):
        check_match("last clip")
