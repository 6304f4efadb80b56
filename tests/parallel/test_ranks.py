"""Rank 0 in this process, another one as it is in earnest: what they make, and how they end."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from formats import scaled_fp8
from safetensors.torch import save_file
from wan_local.wan.clips import plan_clips
from wan_local.wan.encode.animate import condition_animation, encode_clip
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import Cancelled, RankError
from wan_local.wan.load.lora.apply import apply_lora
from wan_local.wan.load.model import load_model
from wan_local.wan.parallel.leader import Leader
from wan_local.wan.parallel.process import RankProcess
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement, Offload
from wan_local.wan.sample.cache import SkipPlan, TeaCache
from wan_local.wan.sample.clip import clip_shape, sample_clip
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.settings import SampleOptions, SampleSettings
from wan_local.wan.sample.video import sample_video
from wan_local.wan.seeds import draw_noise, make_generator
from wan_local.wan.tiny import tiny_files
from wan_local.wan.tiny.configs import SINGLE_FILES

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not torch.distributed.is_available(),
    reason="needs processes that fork, and torch.distributed",
)

# Steps add up what float32 rounds, which is 1e-5 at most in one forward.
RELATIVE = 1e-4
SETTINGS = SampleSettings(
    steps=5,
    guidance=Guidance(5.0, cfg_star=True, cfg_zero_step=1),
    seed=7,
    cache=TeaCache(2.0),
    options=SampleOptions(joint_pass=True),
)


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def leader():
    ranks = Leader([torch.device("cpu")] * 2)
    yield ranks
    ranks.close()


@pytest.fixture(scope="module")
def shared(tiny, leader):
    """The I2V miniature, sampled by two processes."""
    return load_model(tiny_files(tiny, Variant.I2V), DevicePlacement("cpu", ranks=leader))


@pytest.fixture(scope="module")
def text(i2v):
    return encode_prompts(i2v, "a cat turns its head", "", Silent())


@pytest.fixture(scope="module")
def condition(i2v):
    picture = torch.rand(40, 56, 3, generator=torch.Generator().manual_seed(1))
    return condition_on_image(i2v, picture, 80, 48, 9, Silent())  # 45 tokens


@pytest.fixture
def sample(shared, text, condition):
    def run(reporter=None, settings=SETTINGS, model=shared):
        return sample_video(model, text, condition, settings, reporter or Silent())

    return run


@pytest.fixture(scope="module")
def expected(i2v, text, condition):
    return sample_video(i2v, text, condition, SETTINGS, Silent())


@pytest.fixture
def lora(tmp_path):
    return write_lora(tmp_path / "lora.safetensors", 2)


def write_lora(path, seed):
    generator = torch.Generator().manual_seed(seed)
    name = "diffusion_model.blocks.1.ffn.0"
    up, down = (torch.randn(*size, generator=generator) for size in ((96, 2), (2, 48)))
    save_file({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}, path)
    return path


class At(Silent):
    """Does something once, when a step is done or so many checks were made."""

    def __init__(self, action, step=None, check=None):
        self.action, self.step, self.check = action, step, check
        self.checks, self.notes = 0, []

    def update(self, done, preview=None):
        if done == self.step:
            self.step = None
            self.action()

    def check_cancelled(self):
        self.checks += 1
        if self.checks == self.check:
            self.action()

    def note(self, text):
        self.notes.append(text)


def cancel():
    raise Cancelled


def test_two_ranks_sample_what_one_does(sample, expected, leader):
    made = sample()
    assert distance(made.latents, expected.latents) < RELATIVE
    assert made.report == expected.report and made.report.skipped
    (pid,) = leader.pids
    sample()
    assert leader.pids == [pid], "it stays for the next run"


def test_a_drawn_seed_is_the_same_everywhere(sample, i2v, text, condition):
    made = sample(settings=replace(SETTINGS, seed=-1))
    again = sample_video(i2v, text, condition, replace(SETTINGS, seed=made.seed), Silent())
    assert distance(made.latents, again.latents) < RELATIVE


def test_the_stock_forward(sample, expected, monkeypatch):
    monkeypatch.setenv("WAN_LOCAL_FORWARD", "diffusers")
    assert distance(sample().latents, expected.latents) < RELATIVE


def planned(plan):
    """Settings of which this process alone knows how they plan."""
    cache = TeaCache(2.0)
    object.__setattr__(cache, "plan", plan)
    return replace(SETTINGS, cache=cache)


def test_the_plan_of_rank_0_holds_for_all(sample, expected, i2v, text, condition):
    settings = planned(lambda run: SkipPlan("its own", (True, False, False, False, True)))
    made = sample(settings=settings)
    assert made.report.skipped == 6 != expected.report.skipped
    alone = sample_video(i2v, text, condition, settings, Silent())
    assert distance(made.latents, alone.latents) < RELATIVE


def test_streamed_blocks(sample, shared, expected):
    shared.transformer.placement.offload = Offload.BLOCKS
    try:
        assert distance(sample().latents, expected.latents) < RELATIVE
        assert shared.transformer.is_streamed
    finally:
        shared.transformer.placement.offload = Offload.AUTO


def test_a_lora_is_on_the_weights_of_all_ranks(
    sample, shared, i2v, text, condition, expected, lora
):
    def both():
        made = sample(model=apply_lora(shared, lora, 0.8)).latents
        alone = sample_video(apply_lora(i2v, lora, 0.8), text, condition, SETTINGS, Silent())
        assert distance(made, alone.latents) < RELATIVE
        return made

    made = both()
    assert distance(made, expected.latents) > 100 * RELATIVE
    assert distance(sample().latents, expected.latents) < RELATIVE
    both()
    write_lora(lora, 3)  # another one under the same name
    assert distance(both(), made) > 100 * RELATIVE


def test_fp8_weights_with_a_lora(tiny, tmp_path, leader, text, condition, lora, expected):
    source = tiny / "comfyui" / "diffusion_models" / SINGLE_FILES[Variant.I2V]
    path = scaled_fp8(source, tmp_path / "m.safetensors", torch.float8_e4m3fn, "comfy_quant")
    files = replace(tiny_files(tiny, Variant.I2V), transformer=path)
    made, alone = (
        sample_video(
            apply_lora(load_model(files, placement), lora, 0.8), text, condition, SETTINGS, Silent()
        ).latents
        for placement in (DevicePlacement("cpu", ranks=leader), DevicePlacement("cpu"))
    )
    assert distance(made, alone) < RELATIVE
    assert distance(made, expected.latents) > 100 * RELATIVE


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_clip_of_an_animation(tiny, animate, leader, scale):
    model = load_model(tiny_files(tiny, Variant.ANIMATE), DevicePlacement("cpu", ranks=leader))
    generator = torch.Generator().manual_seed(0)

    def frames(count, *size):
        return torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8, generator=generator)

    given = (frames(1, 50, 70)[0], frames(9, 48, 80), frames(9, 64, 64), 80, 48)
    condition = condition_animation(animate, *given, Silent())
    clip = encode_clip(animate, condition, plan_clips(9, 9, 1)[0], None, Silent())
    prompts = encode_prompts(animate, "somebody waves", "", Silent())
    settings = SampleSettings(steps=3, guidance=Guidance(scale, cfg_star=False), solver="dpm++")
    noise = draw_noise(clip_shape(clip), make_generator(5))
    made, alone = (
        sample_clip(m, prompts, clip, settings, noise, Silent()).latents for m in (model, animate)
    )
    assert distance(made, alone) < RELATIVE


@pytest.mark.parametrize("when", [{"step": 2}, {"step": 5}, {"check": 7}])
def test_a_cancel_reaches_all_ranks_and_they_stay(sample, expected, leader, when):
    sample()
    pids = leader.pids
    reporter = At(cancel, **when)
    with pytest.raises(Cancelled):
        sample(reporter)
    assert distance(sample().latents, expected.latents) < RELATIVE
    assert leader.pids == pids


def test_what_another_rank_misses_is_told_by_its_name(sample, shared, lora, expected, leader):
    patched = apply_lora(shared, lora, 0.8)
    lora.unlink()
    sample()
    (pid,) = leader.pids
    with pytest.raises(RankError, match=r"Rank 1 of 2 \(cpu\): .*lora.safetensors") as caught:
        sample(model=patched)
    assert caught.value.fix
    assert distance(sample().latents, expected.latents) < RELATIVE
    assert leader.pids != [pid] and not alive(pid)


def test_a_rank_that_is_killed_ends_the_run_and_is_replaced(sample, expected, leader):
    sample()
    (pid,) = leader.pids
    with pytest.raises(RankError, match=r"Rank 1 of 2 \(cpu\) ended \(signal 9\)"):
        sample(At(lambda: os.kill(pid, signal.SIGKILL), check=5))
    assert distance(sample().latents, expected.latents) < RELATIVE


def test_a_rank_that_died_between_two_runs_is_replaced(sample, expected, leader):
    sample()
    (pid,) = leader.pids
    os.kill(pid, signal.SIGKILL)
    while pid in leader.pids:
        pass
    assert distance(sample().latents, expected.latents) < RELATIVE


def test_an_error_of_rank_0_ends_the_others(sample, expected, leader):
    sample()
    (pid,) = leader.pids

    def plan(run):
        raise ArithmeticError("a policy that cannot plan")

    with pytest.raises(ArithmeticError):
        sample(settings=planned(plan))
    assert not alive(pid)
    assert distance(sample().latents, expected.latents) < RELATIVE


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit on another process")
def test_a_rank_without_memory_streams_its_blocks_at_the_second_try(
    shared, text, i2v, leader, monkeypatch
):
    picture = torch.rand(40, 56, 3, generator=torch.Generator().manual_seed(1))
    large = condition_on_image(i2v, picture, 320, 320, 33, Silent())
    settings = replace(SETTINGS, steps=2, cache=None)

    # A rank that gives back what it frees, so that each step needs new memory.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    for pid in leader.pids:
        os.kill(pid, signal.SIGKILL)
    while leader.pids:
        pass
    sample_video(shared, text, large, replace(settings, steps=1), Silent())
    (pid,) = leader.pids
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])

    def limit():
        import resource

        most = pages * resource.getpagesize() + (1 << 20)
        resource.prlimit(pid, resource.RLIMIT_AS, (most, most))

    reporter, calls, send = At(limit, step=1), [], RankProcess.send
    monkeypatch.setattr(
        RankProcess, "send", lambda self, call: (calls.append(call["offload"]), send(self, call))
    )
    made = sample_video(shared, text, large, settings, reporter)
    assert any("rank 1 of 2 (cpu)" in note.lower() for note in reporter.notes), reporter.notes
    alone = sample_video(i2v, text, large, settings, Silent())
    assert distance(made.latents, alone.latents) < RELATIVE
    assert shared.transformer.is_streamed and calls == ["auto", "blocks"]
