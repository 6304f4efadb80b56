"""Golden numbers of the official solvers: Wan2.1 wan/utils/fm_solvers*.py, run on a CPU."""

import pytest
import torch
from wan_local.wan.errors import InputError
from wan_local.wan.sample.schedule import Solver

UNIPC_30_5 = [
    999, 992, 985, 978, 969, 961, 952, 942, 931, 920, 908, 895, 882, 867, 850, 833, 813, 792, 768,
    742, 713, 681, 644, 603, 555, 499, 434, 356, 262, 146,
]  # fmt: skip
DPM_30_5 = [
    1000, 993, 985, 978, 970, 961, 952, 942, 932, 921, 909, 896, 882, 867, 851, 833, 813, 792, 769,
    743, 714, 681, 645, 603, 555, 499, 434, 357, 263, 147,
]  # fmt: skip


def timesteps(name, steps, shift):
    return Solver(name, steps, shift).timesteps.tolist()


def test_a1_unipc_10_steps_shift_3():
    solver = Solver("unipc", 10, 3)
    assert solver.timesteps.tolist() == [999, 963, 922, 874, 817, 749, 666, 562, 428, 249]
    assert solver.sigmas.tolist() == pytest.approx(
        [0.999666, 0.963941, 0.922722, 0.874635, 0.81781, 0.749625, 0.666296, 0.562148, 0.428265,
         0.249792, 0],
        abs=1e-6,
    )  # fmt: skip


def test_a2_dpm_10_steps_shift_3():
    solver = Solver("dpm++", 10, 3)
    assert solver.timesteps.tolist() == [1000, 964, 923, 874, 818, 750, 666, 562, 428, 249]
    assert solver.sigmas[1].item() == pytest.approx(0.964286, abs=1e-6)
    assert solver.sigmas[-2].item() == pytest.approx(0.25, abs=1e-6)
    assert solver.sigmas[-1].item() == 0


def test_a3_unipc_30_steps_shift_5():
    assert timesteps("unipc", 30, 5) == UNIPC_30_5


def test_a4_dpm_30_steps_shift_5():
    assert timesteps("dpm++", 30, 5) == DPM_30_5


def test_a5_few_steps():
    assert timesteps("unipc", 4, 5) == [999, 937, 833, 624]
    assert timesteps("dpm++", 4, 8) == [1000, 960, 888, 727]
    one = Solver("unipc", 1, 5)
    assert one.timesteps.tolist() == [999]
    assert one.sigmas.tolist() == pytest.approx([0.9998, 0], abs=1e-5)


def test_a6_unipc_20_steps_shift_16():
    steps = timesteps("unipc", 20, 16)
    assert steps[:5] == [999, 996, 993, 989, 984]
    assert steps[-5:] == [841, 799, 738, 639, 456]


def trajectory(name, steps, shift):
    solver = Solver(name, steps, shift)
    latents = torch.linspace(-1, 1, 5).reshape(1, 5, 1, 1, 1)
    path = []
    for index, t in enumerate(solver.timesteps):
        velocity = 0.5 * latents + 0.1 * (t / 1000) * torch.cos(3 * latents)
        latents = solver.step(velocity, index, latents)
        path.append(latents.flatten().tolist())
    return path


@pytest.mark.parametrize(
    ("name", "steps", "shift", "final"),
    [
        ("unipc", 6, 5, [-0.546723, -0.306725, -0.049671, 0.275249, 0.62485]),
        ("dpm++", 6, 5, [-0.545359, -0.306318, -0.050215, 0.274839, 0.624585]),
        ("unipc", 10, 3, [-0.575609, -0.313249, -0.038343, 0.288072, 0.632962]),
        ("dpm++", 10, 3, [-0.574895, -0.313061, -0.038617, 0.287709, 0.632672]),
    ],
)
def test_a7_trajectory(name, steps, shift, final):
    # 2e-6: the golden numbers carry six decimals.
    assert trajectory(name, steps, shift)[-1] == pytest.approx(final, abs=2e-6)


def test_a7_first_step_of_unipc():
    first = [-0.976952, -0.490651, -0.003844, 0.490107, 0.984564]
    assert trajectory("unipc", 6, 5)[0] == pytest.approx(first, abs=2e-6)


@pytest.mark.parametrize("name", ["unipc", "dpm++"])
@pytest.mark.parametrize(("steps", "shift"), [(6, 5), (10, 3)])
def test_a8_without_velocity_nothing_moves(name, steps, shift):
    solver = Solver(name, steps, shift)
    start = torch.linspace(-1, 1, 5).reshape(1, 5, 1, 1, 1)
    latents = start
    for index in range(steps):
        latents = solver.step(torch.zeros_like(latents), index, latents)
    # Float32 rounding of ratios of noise levels.
    assert (latents - start).abs().max() <= 2e-7


def test_many_steps_with_repeated_timesteps_run_to_the_end():
    solver = Solver("dpm++", 100, 100)
    assert len(set(solver.timesteps.tolist())) < 100
    latents = torch.ones(1, 1, 1, 1, 1)
    for index in range(100):
        latents = solver.step(latents, index, latents)
    assert torch.isfinite(latents).all()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [(("euler", 4, 5), "'euler'"), (("unipc", 0, 5), "0"), (("unipc", 4, 0), "0")],
)
def test_wrong_settings_are_named(arguments, value):
    with pytest.raises(InputError) as error:
        Solver(*arguments)
    assert value in error.value.what and error.value.fix
