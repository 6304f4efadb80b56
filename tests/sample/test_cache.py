"""Step-skipping caches against the numbers of i2v.md A9 to A13 and of their publications."""

import math
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.errors import InputError, ModelError, WanError
from wan_local.wan.payloads import Variant
from wan_local.wan.sample.cache import (
    MagCache,
    ResidualCache,
    RunFacts,
    SkipPlan,
    TeaCache,
    compute_all,
    time_embeddings,
)
from wan_local.wan.sample.cache.magcache import RATIOS, stretch_ratios
from wan_local.wan.sample.cache.plan import weights_resolution
from wan_local.wan.sample.cache.teacache import (
    computed_steps,
    contributions,
    embedding_distances,
    search_threshold,
)
from wan_local.wan.sample.schedule import Solver

A10 = [0.10 + 0.05 * ((7 * i % 5) / 4) for i in range(1, 20)]
A11 = [0.3 * math.exp(-i / 10) + 0.06 for i in range(1, 30)]


def text(flags):
    return "".join(str(int(flag)) for flag in flags)


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [
        ("480p", [-0.013561, 0.053627, 0.099528, 0.178729, 0.428631]),
        ("720p", [-0.02798, 0.122998, 0.242024, 0.335161, 0.382246]),
    ],
)
def test_a9_polynomials(resolution, expected):
    values = contributions([0.05, 0.1, 0.15, 0.2, 0.3], resolution)
    assert values == pytest.approx([abs(value) for value in expected], abs=1e-6)


@pytest.mark.parametrize(
    ("resolution", "threshold", "flags"),
    [
        ("480p", 0.13, "10101001010010100101"),
        ("480p", 0.20, "10010010010010010011"),
        ("480p", 0.26, "10001000100010001001"),
        ("720p", 0.13, "11111011110111101111"),
        ("720p", 0.20, "10101011010110101101"),
    ],
)
def test_a10_teacache_schedule(resolution, threshold, flags):
    assert text(computed_steps(contributions(A10, resolution), threshold)) == flags


@pytest.mark.parametrize(
    ("resolution", "multiplier", "threshold", "computed"),
    [
        ("480p", 1.5, 0.10, 20), ("480p", 1.75, 0.14, 17), ("480p", 2, 0.19, 15),
        ("480p", 2.25, 0.24, 13), ("480p", 2.5, 0.28, 12),
        ("720p", 1.5, 0.23, 20), ("720p", 1.75, 0.31, 17), ("720p", 2, 0.33, 15),
        ("720p", 2.25, 0.39, 13), ("720p", 2.5, 0.40, 12),
    ],
)  # fmt: skip
def test_a11_threshold_search(resolution, multiplier, threshold, computed):
    plan = TeaCache(multiplier).plan_from(A11, resolution)
    assert (plan.threshold, plan.computed) == (threshold, computed)
    assert plan.describe() == (
        f"TeaCache x{multiplier:g}: {computed} of 30 steps computed "
        f"(threshold {threshold:g}, expected x{30 / computed:.2f})"
    )


def test_a11_schedules_of_speed_up_2():
    flags = {r: text(TeaCache(2).plan_from(A11, r).compute) for r in ("480p", "720p")}
    assert flags["480p"] == "111111110101010010001000010001"
    assert flags["720p"] == "101111110101010101001000100001"


def test_a11_speed_up_1_takes_the_smallest_threshold():
    plan = TeaCache(1).plan_from(A11, "480p")
    assert (plan.threshold, plan.computed) == (0.01, 30)
    assert "speed-up of 1 asks for none" in plan.describe()


def test_a12_start_step_15():
    plan = TeaCache(2, start_percent=50).plan_from(A11, "480p")
    assert (plan.threshold, plan.computed) == (0.32, 18)
    assert text(plan.compute) == "111111111111111100000100000001"


def test_a13_start_step_is_rounded_down():
    plan = TeaCache(2.5, start_percent=20).plan_from(A11, "720p")
    assert text(plan.compute[:8]) == "11111110"
    assert text(computed_steps([0.0] * 29, 0.01, start=6)) == "1111111" + "0" * 22 + "1"


distances = st.lists(st.floats(0, 0.5), min_size=0, max_size=40)
multipliers = st.floats(0.05, 8)
percents = st.integers(0, 100)


@given(distances, multipliers, percents, st.sampled_from(["480p", "720p"]), st.integers(0, 5))
def test_teacache_plans_are_sound(moved, multiplier, percent, resolution, zeroed):
    steps = len(moved) + 1
    zeroed = min(zeroed, steps - 1)
    plan = TeaCache(multiplier, percent).plan_from(moved, resolution, zeroed)
    assert len(plan.compute) == steps
    assert plan.compute[zeroed] and plan.compute[-1]
    assert not any(plan.compute[:zeroed])
    assert all(plan.compute[zeroed : int(percent * steps / 100) + 1])
    assert plan.computed == sum(plan.compute)


@given(distances, multipliers, multipliers, percents)
def test_a_larger_multiplier_never_computes_more(moved, one, other, percent):
    less, more = sorted((one, other))
    plans = [TeaCache(m, percent).plan_from(moved, "480p") for m in (less, more)]
    assert plans[1].computed <= plans[0].computed


@given(distances, st.integers(0, 40), percents)
def test_search_ends_only_where_it_gets_worse(moved, target, percent):
    """The early end misses no better threshold among all 60."""
    drifts, start = contributions(moved, "480p"), percent // 10
    threshold, flags = search_threshold(drifts, target, start)
    every = {
        h / 100: abs(target - sum(computed_steps(drifts, h / 100, start))) for h in range(1, 61)
    }
    assert abs(target - sum(flags)) == min(every.values())
    assert threshold == min(
        h for h, difference in every.items() if difference == min(every.values())
    )


@given(distances)
def test_multiplier_0_computes_every_step(moved):
    plan = TeaCache(0).plan_from(moved, "480p")
    assert all(plan.compute) and plan.gain == 1 and plan.threshold is None
    assert plan.describe() == f"TeaCache off: all {len(moved) + 1} steps computed"


def test_zeroed_steps_are_no_part_of_the_search():
    plan = TeaCache(2).plan_from(A11, "480p", zeroed_steps=3)
    assert text(plan.compute[:4]) == "0001"
    assert plan.compute[3:] == TeaCache(2).plan_from(A11[3:], "480p").compute
    assert plan.gain == pytest.approx(27 / plan.computed)
    assert "of 27 steps computed after 3 of zero velocity" in plan.describe()


def test_the_reason_why_nothing_is_skipped_is_named():
    line = TeaCache(2).plan_from([0.6, 0.7, 0.9], "480p").describe()
    assert line.startswith("TeaCache x2: all 4 steps computed, nothing is skipped: with 4 steps")
    line = TeaCache(2, start_percent=100).plan_from(A11, "480p").describe()
    assert "nothing is skipped: the steps up to 100 %" in line


@pytest.mark.parametrize(
    ("policy", "wrong", "value"),
    [
        (TeaCache, {"multiplier": -1}, "-1"),
        (TeaCache, {"multiplier": math.nan}, "nan"),
        (TeaCache, {"start_percent": 101}, "101"),
        (MagCache, {"threshold": -0.1}, "-0.1"),
        (MagCache, {"max_skips": -1}, "-1"),
        (MagCache, {"retention": 1.5}, "1.5"),
    ],
)
def test_wrong_numbers_are_named(policy, wrong, value):
    with pytest.raises(InputError) as error:
        policy(**wrong)
    assert value in error.value.what and error.value.fix


@pytest.mark.parametrize(
    ("name", "variant", "expected"),
    [
        ("wan2.1_i2v_480p_14B_bf16.safetensors", Variant.I2V, "480p"),
        ("Wan2.1-I2V-14B-720P", Variant.I2V, "720p"),
        ("my_finetune.safetensors", Variant.I2V, "480p"),
        ("Wan2.1-FLF2V-14B", Variant.FLF2V, "720p"),
    ],
)
def test_table_is_chosen_by_kind_and_name(name, variant, expected):
    assert weights_resolution("auto", name, variant) == expected
    assert weights_resolution("480p", name, variant) == "480p"


def test_unmeasured_weights_are_refused_unless_told_outright():
    with pytest.raises(ModelError, match="Animate-14B"):
        weights_resolution("auto", "Wan2.2-Animate-14B", Variant.ANIMATE)
    assert weights_resolution("720p", "Wan2.2-Animate-14B", Variant.ANIMATE) == "720p"
    with pytest.raises(InputError, match="1080p"):
        weights_resolution("1080p", "x", Variant.I2V)


@pytest.mark.parametrize(
    ("flags", "zeroed"), [("01", 0), ("10", 0), ("0011", 1), ("1011", 1), ("00", 2)]
)
def test_unsound_plans_are_refused(flags, zeroed):
    with pytest.raises(WanError, match=flags):
        SkipPlan("Test", tuple(flag == "1" for flag in flags), zeroed_steps=zeroed)


def test_only_steps_that_are_repeated_are_kept():
    plan = SkipPlan("Test", tuple(flag == "1" for flag in "0110011"), zeroed_steps=1)
    assert [plan.is_reused(step) for step in range(7)] == [
        False, False, True, False, False, False, False,
    ]  # fmt: skip
    assert not any(compute_all(5).is_reused(step) for step in range(5))


@pytest.fixture(scope="module")
def transformer():
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    return WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=36, out_channels=16, text_dim=32,
        freq_dim=32, ffn_dim=96, num_layers=2, image_dim=32, added_kv_proj_dim=48,
        rope_max_seq_len=64,
    ).eval()  # fmt: skip


def run(transformer, steps=30, **other):
    timesteps = Solver("unipc", steps, 5).timesteps
    return RunFacts(transformer, timesteps, "tiny_480p", Variant.I2V, **other)


def test_time_embeddings_are_those_of_the_forward(transformer):
    timesteps = Solver("unipc", 30, 5).timesteps
    ours = time_embeddings(transformer, timesteps)
    assert ours.shape == (30, 48) and ours.dtype == torch.float32
    words, picture = torch.zeros(1, 512, 32), torch.zeros(1, 257, 32)
    with torch.no_grad():
        each = [transformer.condition_embedder(t[None], words, picture)[0] for t in timesteps]
    # One row at a time rounds differently than all in one matrix product.
    assert torch.allclose(ours, torch.cat(each), atol=1e-6)


@pytest.fixture(scope="module")
def calm(transformer):
    """With a time embedding that moves little from step to step."""
    changed = deepcopy(transformer).requires_grad_(False)
    changed.condition_embedder.time_embedder.linear_2.bias.add_(1)
    return changed


def test_plan_from_a_real_transformer(calm):
    run_facts = run(calm)
    plan = TeaCache(2, coefficients="720p").plan(run_facts)
    moved = embedding_distances(time_embeddings(calm, run_facts.timesteps))
    assert len(moved) == 29 and all(value > 0 for value in moved)
    assert plan == TeaCache(2).plan_from(moved, "720p")
    assert abs(plan.computed - 15) <= 1  # hundredths do not hit every count


def test_plan_follows_a_changed_time_embedding(transformer, calm):
    """A LoRA may touch it."""
    assert TeaCache(2).plan(run(transformer)) != TeaCache(2).plan(run(calm))


def test_without_a_cache_the_model_is_not_asked():
    assert all(TeaCache(0).plan(run(None)).compute)
    assert not all(MagCache().plan(run(None)).compute)


def test_distances_are_relative_to_the_step_before():
    moved = embedding_distances(torch.tensor([[1.0, -3.0], [2.0, -3.0], [2.0, 3.0]]))
    assert moved == pytest.approx([0.5 / 2, 3 / 2.5])


# MagCache


def test_published_ratio_tables_are_whole():
    assert all(len(branch) == 40 and branch[0] == 1 for b in RATIOS.values() for branch in b)
    # Sums of the lists at MagCache commit df81cb18, each value times its step counted from 1.
    sums = [sum(i * x for i, x in enumerate(b, 1)) for name in RATIOS for b in RATIOS[name]]
    assert sums == pytest.approx([791.5045, 791.54654, 791.4597, 791.48236], abs=1e-6)


def published_decisions(ratios, threshold, most, kept):
    """The published rule for one branch, retold: 1 = computed."""
    flags, product, error, skipped = [], 1.0, 0.0, 0
    for step, ratio in enumerate(ratios):
        skip = False
        if step >= kept:
            product, skipped = product * ratio, skipped + 1
            error += abs(1 - product)
            skip = error < threshold and skipped <= most
            if not skip:
                product, error, skipped = 1.0, 0.0, 0
        flags.append(not skip)
    return flags


@pytest.mark.parametrize("resolution", ["480p", "720p"])
@pytest.mark.parametrize(("threshold", "most"), [(0.12, 2), (0.12, 4), (0.24, 6)])
@pytest.mark.parametrize("steps", [20, 30, 40])
def test_magcache_decides_as_published(resolution, threshold, most, steps):
    plan = MagCache(threshold, most).plan_from(RATIOS[resolution], steps)
    branches = [stretch_ratios(branch, steps) for branch in RATIOS[resolution]]
    decisions = [published_decisions(r, threshold, most, steps // 5) for r in branches]
    # The branches' tables are so close that they agree with one another throughout.
    assert decisions[0] == decisions[1]
    assert list(plan.compute[:-1]) == decisions[0][:-1]
    assert plan.compute[-1]


@given(
    st.lists(st.tuples(st.floats(0.7, 1.1), st.floats(0.7, 1.1)), min_size=1, max_size=40),
    st.integers(1, 50), st.floats(0, 0.5), st.integers(0, 8), st.floats(0, 1), st.integers(0, 5),
)  # fmt: skip
def test_magcache_plans_are_sound(pairs, steps, threshold, most, retention, zeroed):
    zeroed = min(zeroed, steps - 1)
    ratios = tuple(zip(*pairs, strict=True))
    plan = MagCache(threshold, most, retention).plan_from(ratios, steps, zeroed)
    assert plan.compute[zeroed] and plan.compute[-1] and len(plan.compute) == steps
    assert all(plan.compute[zeroed : int(steps * retention)])
    assert not any("0" * (most + 1) in run for run in text(plan.compute[zeroed:]).split("1"))


def test_magcache_skips_only_what_both_branches_would():
    calm, wild = [1.0] * 12, [1.0] * 6 + [0.5] + [1.0] * 5
    policy = MagCache(threshold=0.1, max_skips=3, retention=0.25)
    assert text(policy.plan_from((calm, calm), 12).compute) == "111000100011"
    assert text(policy.plan_from((calm, wild), 12).compute) == "111000100011"
    early = [1.0] * 4 + [0.5] + [1.0] * 7
    for pair in ((calm, early), (early, calm)):
        assert text(policy.plan_from(pair, 12).compute) == "111010001001"


def test_magcache_describes_itself():
    plan = MagCache().plan_from(RATIOS["480p"], 30)
    assert plan.describe().startswith("MagCache (at most 4 in a row): ")
    assert f"{plan.computed} of 30 steps computed (threshold 0.12, expected x" in plan.describe()
    few = MagCache().plan_from(RATIOS["480p"], 2).describe()
    assert few.endswith(
        "nothing is skipped: with 2 steps the first 1 and the last one are always computed"
    )


def test_ratios_of_other_step_counts_are_the_nearest_measured_ones():
    assert stretch_ratios([1, 2, 3, 4, 5], 3) == [1, 3, 5]
    assert stretch_ratios([1, 2, 3], 5) == [1, 1, 2, 3, 3]
    assert stretch_ratios([1, 2, 3], 1) == [3]


def test_a_skipped_step_repeats_the_last_computed_change():
    cache, generator = ResidualCache(), torch.Generator().manual_seed(0)
    first, second, later = torch.randn(3, 2, 1, 6, 4, generator=generator)
    for branch in range(2):
        cache.store(branch, first[branch], first[branch] * 3)
        cache.store(branch, second[branch], second[branch] + branch + 1)
    for branch in range(2):
        before = later[branch].clone()
        assert torch.allclose(cache.apply(branch, before), later[branch] + branch + 1, atol=1e-6)
        assert torch.equal(before, later[branch])


def test_residuals_may_wait_on_another_device():
    cache = ResidualCache(torch.device("meta"))
    cache.store(0, torch.zeros(1, 2, 3), torch.ones(1, 2, 3))
    assert cache.apply(0, torch.zeros(1, 2, 3, device="meta")).device.type == "meta"


def test_a_skip_before_anything_was_computed_is_refused():
    cache = ResidualCache()
    cache.store(0, torch.zeros(1), torch.ones(1))
    with pytest.raises(WanError, match="branch 1"):
        cache.apply(1, torch.zeros(1))


@pytest.mark.parametrize("zeroed", range(4))
@pytest.mark.parametrize("policy", ["teacache", "magcache"])
def test_a_plan_never_asks_for_a_missing_residual(policy, zeroed):
    if policy == "teacache":
        plan = TeaCache().plan_from(A11, "480p", zeroed)
    else:
        plan = MagCache().plan_from(RATIOS["480p"], 30, zeroed)
    cache, before = ResidualCache(), torch.zeros(1)
    for step in range(zeroed, 30):
        if plan.is_reused(step):
            cache.store(0, before, before)
        if not plan.compute[step]:
            cache.apply(0, before)
