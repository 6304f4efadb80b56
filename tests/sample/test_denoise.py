from dataclasses import replace

import pytest
import torch
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import GeometryError, InputError, ModelError
from wan_local.wan.progress import Silent
from wan_local.wan.sample.attention import kernel_problem, sage_problem
from wan_local.wan.sample.cache import MagCache, ResidualCache, TeaCache
from wan_local.wan.sample.cross import Branch
from wan_local.wan.sample.forward import (
    Network,
    Step,
    embed_context,
    embed_time,
    predict_velocities,
)
from wan_local.wan.sample.guidance import Guidance, guide
from wan_local.wan.sample.rope import Riflex, Rotary, rotary_tables
from wan_local.wan.sample.schedule import Solver
from wan_local.wan.sample.settings import SampleOptions, SampleSettings
from wan_local.wan.sample.video import sample_video
from wan_local.wan.seeds import draw_noise, make_generator

SETTINGS = SampleSettings(steps=4, guidance=Guidance(5.0, cfg_star=False), seed=7)
UNGUIDED = replace(SETTINGS, guidance=Guidance(1.0))


@pytest.fixture(scope="module")
def text(i2v):
    return encode_prompts(i2v, "a cat turns its head", "", Silent())


@pytest.fixture(scope="module")
def condition(i2v):
    picture = torch.rand(40, 56, 3, generator=torch.Generator().manual_seed(1))
    return condition_on_image(i2v, picture, 64, 48, 9, Silent())


class Counter(Silent):
    """Counts blocks entered and keeps previews."""

    def __init__(self):
        self.checks, self.previews, self.notes = 0, [], []

    def check_cancelled(self):
        self.checks += 1

    def update(self, done, preview=None):
        self.previews.append(preview())

    def note(self, text):
        self.notes.append(text)


def test_forward_equals_the_modules_own(i2v, text, condition, forward):
    known = torch.cat([condition.mask, condition.latents], dim=1)
    noise = torch.randn(1, 16, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    hidden, timestep = torch.cat([noise, known], dim=1), torch.tensor([737])
    with i2v.transformer.on_device() as transformer, torch.no_grad():
        expected = transformer(
            hidden, timestep, text.positive, condition.image_embeds, return_dict=False
        )[0]
        branches = [
            Branch(embed_context(transformer, t, condition.image_embeds))
            for t in (text.positive, text.negative)
        ]
        rotary = rotary_tables(transformer.rope, condition.shape, None, hidden.device)
        step = Step(ResidualCache(), numbers=(0, 1))
        network, moment = (
            Network(transformer, Rotary.of(rotary)),
            embed_time(transformer, timestep, hidden),
        )
        ours = predict_velocities(network, hidden, moment, branches, step, lambda: None)
    forward.expect_equal(ours[0], expected)
    assert not torch.equal(ours[0], ours[1])


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_loop_equals_a_straightforward_recomputation(i2v, text, condition, solver, forward):
    settings = replace(SETTINGS, solver=solver)
    ours = sample_video(i2v, text, condition, settings, Silent()).latents
    latents = torch.randn(16, 3, 6, 8, generator=torch.Generator().manual_seed(7))[None]
    steps = Solver(solver, 4, 5.0)
    with i2v.transformer.on_device() as transformer, torch.no_grad():
        for index, t in enumerate(steps.timesteps):
            x = torch.cat([latents, condition.mask, condition.latents], dim=1)
            both = [
                transformer(x, t[None], embeds, condition.image_embeds, return_dict=False)[0]
                for embeds in (text.positive, text.negative)
            ]
            velocity = both[1] + 5.0 * (both[0] - both[1])
            latents = steps.step(velocity, index, latents)
    forward.expect_equal(ours, latents)


def test_a31_guidance_1_runs_one_forward_a_step(i2v, text, condition):
    with i2v.transformer.on_device() as transformer:
        blocks = len(transformer.blocks)
    forwards = []
    for settings in (UNGUIDED, SETTINGS):
        counter = Counter()
        report = sample_video(i2v, text, condition, settings, counter).report
        forwards.append((counter.checks - 1) // blocks)  # one check opens the phase
        assert report.forwards == forwards[-1] and report.skipped == 0
    assert forwards == [4, 8]


def test_guidance_1_needs_no_negative_but_others_do(i2v, text, condition):
    alone = replace(text, negative=None)
    sample_video(i2v, alone, condition, UNGUIDED, Silent())
    with pytest.raises(InputError, match="negative"):
        sample_video(i2v, alone, condition, SETTINGS, Silent())


def test_guide_is_the_formula_and_1_gives_the_conditional():
    conditional, unconditional = torch.tensor([1.0, 2, 3, 4]), torch.tensor([2.0, 1, 0.5, -0.5])
    assert guide(conditional, unconditional, 5).tolist() == [-3, 6, 13, 22]
    assert torch.equal(guide(conditional, unconditional, 1), conditional)


def test_same_seed_same_latents_and_other_seed_other_latents(i2v, text, condition):
    first = sample_video(i2v, text, condition, SETTINGS, Silent())
    again = sample_video(i2v, text, condition, SETTINGS, Silent())
    other = sample_video(i2v, text, condition, replace(SETTINGS, seed=8), Silent())
    assert torch.equal(first.latents, again.latents)
    assert not torch.allclose(first.latents, other.latents, atol=1e-2)


def test_a31_seed_minus_1_is_drawn_and_reported(i2v, text, condition):
    counter = Counter()
    drawn = [
        sample_video(i2v, text, condition, replace(SETTINGS, steps=1, seed=-1), counter).seed
        for _ in range(2)
    ]
    assert drawn[0] != drawn[1] and min(drawn) >= 0
    told = [note for note in counter.notes if "drawn" in note]
    assert [str(seed) in note for seed, note in zip(drawn, told, strict=True)] == [True] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 5},
        {"guidance": Guidance(3.0, cfg_star=False)},
        {"guidance": Guidance(5.0, cfg_star=True, cfg_zero_step=-1)},
        {"guidance": Guidance(5.0, cfg_star=True, cfg_zero_step=2)},
        {"guidance": Guidance(5.0, cfg_star=False, zero_init_steps=1)},
        {"solver": "dpm++"},
        {"shift": 3.0},
        {"seed": 8},
        {"cache": TeaCache(2.0), "steps": 10},
        {"cache": MagCache(0.5), "steps": 10},
        {"options": SampleOptions(riflex=Riflex(force=True))},
    ],
)
def test_every_setting_changes_the_result(i2v, text, condition, change):
    plain = sample_video(i2v, text, condition, SETTINGS, Silent()).latents
    changed = sample_video(i2v, text, condition, replace(SETTINGS, **change), Silent()).latents
    assert (plain - changed).abs().max() > 1e-3


def test_prompt_and_image_change_the_result(i2v, text, condition):
    plain = sample_video(i2v, text, condition, SETTINGS, Silent()).latents
    other_text = encode_prompts(i2v, "an entirely different text", "", Silent())
    assert (
        sample_video(i2v, other_text, condition, SETTINGS, Silent()).latents - plain
    ).abs().max() > 1e-3
    other = condition_on_image(i2v, torch.zeros(40, 56, 3), 64, 48, 9, Silent())
    assert (sample_video(i2v, text, other, SETTINGS, Silent()).latents - plain).abs().max() > 1e-3


def test_preview_is_the_denoised_estimate(i2v, text, condition):
    counter = Counter()
    final = sample_video(i2v, text, condition, SETTINGS, counter).latents
    assert len(counter.previews) == 4
    assert counter.previews[0].shape == final.shape
    # The last step of a solver ends on its own estimate of the clean latents.
    assert torch.allclose(counter.previews[-1], final, atol=0.5)
    noise = draw_noise_like(final)
    assert (counter.previews[-1] - final).abs().mean() < (noise - final).abs().mean()


def draw_noise_like(latents):
    from wan_local.wan.geometry import LatentShape

    return draw_noise(LatentShape(*latents.shape[2:]), make_generator(7))


def test_cancel_stops_before_the_next_block(i2v, text, condition):
    class Cancels(Silent):
        checks = 0

        def check_cancelled(self):
            self.checks += 1
            if self.checks == 4:
                raise KeyboardInterrupt

    reporter = Cancels()
    with pytest.raises(KeyboardInterrupt):
        sample_video(i2v, text, condition, SETTINGS, reporter)
    assert reporter.checks == 4
    after = sample_video(i2v, text, condition, SETTINGS, Silent()).latents
    assert torch.isfinite(after).all()


def test_inputs_are_not_changed(i2v, text, condition):
    before = [t.clone() for t in (text.positive, text.negative, condition.latents, condition.mask)]
    sample_video(i2v, text, condition, SETTINGS, Silent())
    after = (text.positive, text.negative, condition.latents, condition.mask)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_condition_made_for_other_weights_is_refused(flf2v, text, condition):
    with pytest.raises(ModelError, match="first and last frame"):
        sample_video(flf2v, text, condition, SETTINGS, Silent())


def test_condition_of_another_size_is_refused(i2v, text, condition):
    wrong = replace(condition, width=128)
    with pytest.raises(GeometryError, match="latent frames"):
        sample_video(i2v, text, wrong, SETTINGS, Silent())


def latents_of(model, text, condition, settings, reporter=None):
    return sample_video(model, text, condition, settings, reporter or Silent()).latents


@pytest.mark.parametrize("change", [{}, {"cache": TeaCache(2.0), "steps": 10}])
def test_a31_joint_pass_gives_the_same_latents(i2v, text, condition, change):
    separate = replace(SETTINGS, **change)
    joint = replace(separate, options=SampleOptions(joint_pass=True))
    difference = latents_of(i2v, text, condition, separate) - latents_of(
        i2v, text, condition, joint
    )
    assert difference.abs().max() <= 1e-4


def test_joint_pass_goes_through_the_weights_once_a_step(i2v, text, condition):
    with i2v.transformer.on_device() as transformer:
        blocks = len(transformer.blocks)
    counter = Counter()
    joint = replace(SETTINGS, options=SampleOptions(joint_pass=True))
    report = sample_video(i2v, text, condition, joint, counter).report
    assert (counter.checks - 1) // blocks == 4 and report.forwards == 8


def test_a31_cache_off_equals_multiplier_0_bit_for_bit(i2v, text, condition):
    off = replace(SETTINGS, cache=TeaCache(0))
    assert torch.equal(
        latents_of(i2v, text, condition, off), latents_of(i2v, text, condition, SETTINGS)
    )


def test_tea_cache_skips_as_planned_and_says_so(i2v, text, condition):
    counter = Counter()
    settings = replace(SETTINGS, steps=20, cache=TeaCache(2.0))
    report = sample_video(i2v, text, condition, settings, counter).report
    assert report.forwards + report.skipped == 40 and report.forwards == 20
    assert any("TeaCache x2: 10 of 20 steps computed" in note for note in counter.notes)
    last = counter.notes[-1]
    assert "20 of 40 forwards run, attention sdpa; TeaCache x2: 10 of 20 steps" in last
    assert "threshold" in last and "expected x2.00" in last


def test_tea_cache_says_when_too_few_steps_leave_nothing_to_skip(i2v, text, condition):
    counter = Counter()
    sample_video(i2v, text, condition, replace(SETTINGS, steps=2, cache=TeaCache(2.0)), counter)
    assert any("nothing is skipped" in note for note in counter.notes)


def test_a_skipped_step_repeats_the_last_change_of_its_branch(i2v, text, condition):
    """Recomputed plainly: hidden states plus the change that the blocks made before."""
    settings = replace(SETTINGS, steps=6, cache=TeaCache(2.0))
    ours = sample_video(i2v, text, condition, settings, Silent())
    latents = torch.randn(16, 3, 6, 8, generator=torch.Generator().manual_seed(7))[None]
    solver = Solver("unipc", 6, 5.0)
    with i2v.transformer.on_device() as transformer, torch.no_grad():
        from wan_local.wan.sample.cache import RunFacts

        plan = TeaCache(2.0).plan(RunFacts(transformer, solver.timesteps, i2v.name, i2v.variant))
        kept, change = {}, {}
        transformer.blocks[0].register_forward_pre_hook(lambda m, a: kept.update(before=a[0]))
        entry = transformer.blocks[-1].register_forward_hook(
            lambda m, a, out: kept.update(change=out - kept["before"])
        )
        assert not all(plan.compute)
        for index, t in enumerate(solver.timesteps):
            x = torch.cat([latents, condition.mask, condition.latents], dim=1)
            both = []
            for number, embeds in enumerate((text.positive, text.negative)):
                if plan.compute[index]:
                    out = transformer(x, t[None], embeds, condition.image_embeds, return_dict=False)
                    change[number] = kept["change"]
                else:
                    repeat = transformer.blocks[-1].register_forward_hook(
                        lambda m, a, out, n=number: kept["before"] + change[n]
                    )
                    out = transformer(x, t[None], embeds, condition.image_embeds, return_dict=False)
                    repeat.remove()
                both.append(out[0])
            latents = solver.step(both[1] + 5.0 * (both[0] - both[1]), index, latents)
        entry.remove()
        transformer.blocks[0]._forward_pre_hooks.clear()
    # Adding a stored difference rounds once more than keeping the sum.
    assert torch.allclose(ours.latents, latents, atol=1e-4)


def test_nothing_is_carried_over_from_an_interrupted_run_or_another_shape(i2v, text, condition):
    settings = replace(SETTINGS, steps=10, cache=TeaCache(2.0))
    before = latents_of(i2v, text, condition, settings)

    class Cancels(Silent):
        def update(self, done, preview=None):
            if done == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        latents_of(i2v, text, condition, settings, Cancels())
    other = condition_on_image(i2v, torch.rand(32, 32, 3), 32, 32, 5, Silent())
    latents_of(i2v, text, other, settings)
    assert torch.equal(latents_of(i2v, text, condition, settings), before)


def test_no_value_is_read_from_the_device_inside_the_loop(i2v, text, condition, monkeypatch):
    """A synchronising read would be `item`, `tolist`, `float` or `bool` of a model tensor."""
    reads = []
    for name in ("item", "tolist", "__bool__", "__float__"):
        plain = getattr(torch.Tensor, name)

        def spy(tensor, *args, plain=plain, name=name):
            reads.append((name, tensor.numel()))
            return plain(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, spy)

    def count(steps):
        reads.clear()
        settings = replace(SETTINGS, steps=steps, cache=TeaCache(2.0))
        latents_of(i2v, text, condition, settings)
        return sum(1 for _, size in reads if size > 1)

    assert count(6) == count(12)


def test_riflex_changes_long_videos_only(i2v, text, condition):
    counter = Counter()
    guarded = replace(SETTINGS, options=SampleOptions(riflex=Riflex()))
    assert torch.equal(
        latents_of(i2v, text, condition, guarded, counter),
        latents_of(i2v, text, condition, SETTINGS),
    )
    assert any("RIFLEx is not needed at 3 latent frames" in note for note in counter.notes)


def test_the_module_is_left_as_it_was_after_riflex(i2v, text, condition):
    before = latents_of(i2v, text, condition, SETTINGS)
    forced = replace(SETTINGS, options=SampleOptions(riflex=Riflex(force=True)))
    latents_of(i2v, text, condition, forced)
    assert torch.equal(latents_of(i2v, text, condition, SETTINGS), before)


def test_zero_init_does_not_run_the_model(i2v, text, condition):
    settings = replace(SETTINGS, guidance=Guidance(5.0, zero_init_steps=2))
    assert sample_video(i2v, text, condition, settings, Silent()).report.forwards == 4


def test_sage_that_cannot_run_here_is_replaced_and_said_so(i2v, text, condition):
    counter = Counter()
    settings = replace(SETTINGS, options=SampleOptions(attention="sage"))
    video = sample_video(i2v, text, condition, settings, counter)
    if sage_problem(torch.device("cpu"), torch.float32, 24):
        assert sum("sage cannot be used" in note for note in counter.notes) == 1
        assert video.report.attention == "sdpa"
        assert torch.equal(video.latents, latents_of(i2v, text, condition, SETTINGS))


def test_an_unknown_attention_is_named(i2v, text, condition):
    settings = replace(SETTINGS, options=SampleOptions(attention="flash9"))
    with pytest.raises(InputError, match="flash9"):
        sample_video(i2v, text, condition, settings, Silent())


def test_a_kernel_that_computes_something_else_is_refused():
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    cpu = (torch.device("cpu"), torch.float32, 24)
    assert kernel_problem(sdpa, sdpa, *cpu) is None
    assert kernel_problem(lambda q, k, v: sdpa(q, k, v) * 1.02, sdpa, *cpu) is None
    assert "away" in kernel_problem(lambda q, k, v: sdpa(q, k, v) * 1.3, sdpa, *cpu)
    assert "away" in kernel_problem(lambda q, k, v: v * float("nan"), sdpa, *cpu)
