from dataclasses import replace

import pytest
import torch
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import GeometryError, InputError, ModelError
from wan_local.wan.progress import Silent
from wan_local.wan.sample.denoise import SampleSettings, sample_video
from wan_local.wan.sample.forward import Branch, predict_velocity
from wan_local.wan.sample.guidance import guide
from wan_local.wan.sample.schedule import Solver
from wan_local.wan.seeds import draw_noise, make_generator

SETTINGS = SampleSettings(steps=4, guide_scale=5.0, seed=7)


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


def test_forward_equals_the_modules_own(i2v, text, condition):
    known = torch.cat([condition.mask, condition.latents], dim=1)
    noise = torch.randn(1, 16, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    hidden, timestep = torch.cat([noise, known], dim=1), torch.tensor([737])
    with i2v.transformer.on_device() as transformer, torch.no_grad():
        expected = transformer(
            hidden, timestep, text.positive, condition.image_embeds, return_dict=False
        )[0]
        branch = Branch(text.positive, condition.image_embeds)
        ours = predict_velocity(transformer, hidden, timestep, branch, lambda: None)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_loop_equals_a_straightforward_recomputation(i2v, text, condition, solver):
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
    assert torch.equal(ours, latents)


def test_a31_guidance_1_runs_one_forward_a_step(i2v, text, condition):
    with i2v.transformer.on_device() as transformer:
        blocks = len(transformer.blocks)
    forwards = []
    for scale in (1, 5):
        counter = Counter()
        sample_video(i2v, text, condition, replace(SETTINGS, guide_scale=scale), counter)
        forwards.append((counter.checks - 1) // blocks)  # one check opens the phase
    assert forwards == [4, 8]


def test_guidance_1_needs_no_negative_but_others_do(i2v, text, condition):
    alone = replace(text, negative=None)
    sample_video(i2v, alone, condition, replace(SETTINGS, guide_scale=1), Silent())
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
    assert [str(seed) in note for seed, note in zip(drawn, counter.notes, strict=True)] == [
        True
    ] * 2


@pytest.mark.parametrize(
    "change",
    [{"steps": 5}, {"guide_scale": 3.0}, {"solver": "dpm++"}, {"shift": 3.0}, {"seed": 8}],
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
