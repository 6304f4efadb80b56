"""Guidance against the numbers of i2v.md A15 to A17."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.errors import InputError
from wan_local.wan.sample.guidance import Guidance, guide, star_scale
from wan_local.wan.sample.schedule import Solver

V_C = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
V_U = torch.tensor([[2.0, 1.0, 0.5, -0.5]])
STAR = Guidance(scale=5, cfg_star=True, cfg_zero_step=-1)
STAR_RESULT = [-0.0909091, 7.4545455, 13.7272727, 21.2727273]
PLAIN_RESULT = [-3, 6, 13, 22]


def test_a15_cfg_star_in_velocity_space():
    assert star_scale(V_C, V_U).flatten().tolist() == pytest.approx([0.6363636], abs=1e-6)
    assert STAR.combine(0, V_C, V_U).flatten().tolist() == pytest.approx(STAR_RESULT, abs=1e-5)


def test_a15_plain_guidance():
    plain = Guidance(scale=5, cfg_star=False).combine(9, V_C, V_U)
    assert plain.flatten().tolist() == pytest.approx(PLAIN_RESULT)
    assert torch.equal(plain, guide(V_C, V_U, 5))


@pytest.mark.parametrize(
    ("factor_of", "first"),
    # i2v.md names the first, where only the mixing moved to denoised pictures
    [("velocities", -1.909091), ("denoised", -2.777188)],
)
def test_a15_denoised_space_gives_other_numbers(factor_of, first):
    latents, sigma = torch.tensor([[1.0, 0.0, -1.0, 0.5]]), 0.8
    x_c, x_u = latents - sigma * V_C, latents - sigma * V_U
    factor = star_scale(V_C, V_U) if factor_of == "velocities" else star_scale(x_c, x_u)
    velocity = (latents - guide(x_c, factor * x_u, 5)) / sigma
    assert velocity[0, 0].item() == pytest.approx(first, abs=1e-5)
    assert first != pytest.approx(STAR_RESULT[0], abs=1)


def test_a16_one_factor_per_sample():
    v_c = torch.tensor([[1, 0, 2], [3, -1, 0.5]])
    v_u = torch.tensor([[2.0, 2, 1], [1, 1, -2]])
    assert star_scale(v_c, v_u).flatten().tolist() == pytest.approx(
        [0.4444444, 0.1666667], abs=1e-6
    )


def test_a16_all_other_dimensions_share_the_factor():
    v_c, v_u = torch.randn(2, 2, 16, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert star_scale(v_c, v_u).shape == (2, 1, 1, 1, 1)
    expected = (v_c[1] * v_u[1]).sum() / v_u[1].square().sum()
    assert star_scale(v_c, v_u)[1].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a16_without_an_unconditional_part_the_factor_is_0():
    nothing = torch.zeros_like(V_C)
    assert star_scale(V_C, nothing).item() == 0
    assert torch.equal(STAR.combine(0, V_C, nothing), 5 * V_C)


@pytest.mark.parametrize(("zero_step", "first"), [(2, 3), (-1, 0), (5, 6)])
def test_a17_cfg_star_begins_after_the_zero_step(zero_step, first):
    guidance = Guidance(scale=5, cfg_zero_step=zero_step)
    for step in range(8):
        expected = STAR_RESULT if step >= first else PLAIN_RESULT
        assert guidance.combine(step, V_C, V_U).flatten().tolist() == pytest.approx(
            expected, abs=1e-5
        )
        assert guidance.uses_star(step) is (step >= first)


def test_a17_paper_mode_does_not_run_the_model():
    # the paper's k = 2 zeroes steps 0, 1 and 2
    guidance = Guidance(scale=5, cfg_zero_step=-1, zero_init_steps=3)
    assert [guidance.runs_model(step) for step in range(5)] == [False, False, False, True, True]
    assert [guidance.needs_unconditional(step) for step in range(4)] == [False] * 3 + [True]
    for step in range(3):
        assert torch.equal(guidance.combine(step, V_C, V_U), torch.zeros_like(V_C))
    assert guidance.combine(3, V_C, V_U).flatten().tolist() == pytest.approx(STAR_RESULT, abs=1e-5)


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
def test_a17_solvers_stand_still_while_the_velocity_is_0(name):
    solver, guidance = Solver(name, 8, 5), Guidance(zero_init_steps=3)
    start = torch.linspace(-1, 1, 5).reshape(1, 5, 1, 1, 1)
    latents = start
    for step in range(3):
        assert not guidance.runs_model(step)
        latents = solver.step(torch.zeros_like(latents), step, latents)
    assert (latents - start).abs().max() <= 2e-7  # as A8: float32 rounding of noise level ratios
    moved = solver.step(torch.ones_like(latents), 3, latents)
    assert torch.isfinite(moved).all() and (moved - latents).abs().max() > 1e-3


@pytest.mark.parametrize("cfg_star", [True, False])
def test_scale_1_gives_the_conditional_prediction_back(cfg_star):
    guidance = Guidance(scale=1, cfg_star=cfg_star, cfg_zero_step=-1)
    assert not guidance.is_guided and not guidance.needs_unconditional(9)
    assert not guidance.uses_star(9)
    assert torch.equal(guidance.combine(9, V_C, None), V_C)


@given(st.integers(-1, 9), st.integers(0, 9), st.floats(0, 20), st.integers(0, 12))
def test_the_unconditional_branch_is_asked_for_exactly_when_used(zero_step, zeroed, scale, step):
    guidance = Guidance(scale, True, zero_step, zeroed)
    other = guidance.combine(step, V_C, V_U + 1)
    changes = not torch.equal(guidance.combine(step, V_C, V_U), other)
    assert changes is guidance.needs_unconditional(step)


def test_half_precision_predictions_are_combined_in_float32():
    half = STAR.combine(0, V_C.bfloat16(), V_U.bfloat16())
    assert half.dtype == torch.float32
    assert half.flatten().tolist() == pytest.approx(STAR_RESULT, abs=1e-5)


def test_missing_negative_prediction_is_named():
    with pytest.raises(InputError, match="guidance scale is 5"):
        STAR.combine(0, V_C, None)


@pytest.mark.parametrize(
    ("wrong", "value"), [({"cfg_zero_step": -2}, "-2"), ({"zero_init_steps": -1}, "-1")]
)
def test_wrong_step_numbers_are_named(wrong, value):
    with pytest.raises(InputError) as error:
        Guidance(**wrong)
    assert value in error.value.what and "or more" in error.value.fix


def test_a_run_without_any_prediction_is_refused():
    Guidance(zero_init_steps=3).check_steps(4)
    with pytest.raises(InputError, match="zero_init_steps is 4, and there are 4 steps"):
        Guidance(zero_init_steps=4).check_steps(4)
