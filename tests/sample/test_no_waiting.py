"""Between the first step and the last one nothing is read back from the device.

The steps run on PyTorch's meta device, whose tensors have no content: whatever looks at one fails.
What a GPU's host waits for without looking, a check behind a linear system, is watched for.
"""

from copy import deepcopy
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from wan_local.wan.clips import plan_clips
from wan_local.wan.encode.animate import condition_animation, encode_clip
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.progress import Silent
from wan_local.wan.sample import clip as clip_module
from wan_local.wan.sample import video as video_module
from wan_local.wan.sample.cache import TeaCache
from wan_local.wan.sample.clip import clip_shape, sample_clip
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.settings import SampleSettings
from wan_local.wan.sample.video import sample_video
from wan_local.wan.seeds import draw_noise, make_generator

SETTINGS = SampleSettings(
    steps=6,
    guidance=Guidance(4.0, cfg_star=True, cfg_zero_step=1),
    cache=TeaCache(2.0, coefficients="480p"),
    seed=3,
)


CHECKED = ("aten::linalg_solve", "aten::_linalg_check_errors")
"""What a solver asks for; in inference mode as one operator."""


class Watch(TorchDispatchMode):
    """Notes checks that a GPU's host would wait for, and counts operators."""

    def __init__(self):
        super().__init__()
        self.waits, self.operators = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operators += 1
        if func._schema.name in CHECKED:
            self.waits.append(func._schema.name)
        return func(*args, **(kwargs or {}))


class LastCopy(TorchFunctionMode):
    """The result has no content either: its copy to the host, the last thing done, is left out."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.cpu:
            return args[0]
        return function(*args, **(kwargs or {}))


def on_meta(value):
    """A record with its tensors, modules and records on the meta device."""
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, torch.nn.Module):
        return deepcopy(value).to("meta")
    if isinstance(value, list | tuple):
        return type(value)(map(on_meta, value))
    if is_dataclass(value):
        changed = {f.name: on_meta(getattr(value, f.name)) for f in fields(value)}
        return replace(value, **changed)
    return value


@pytest.fixture
def watch(monkeypatch):
    """The loop of both kinds of runs on the meta device."""
    watch = Watch()
    for module in (video_module, clip_module):

        def denoise(run, noise, solver, own=module.denoise):
            assert any(run.plan.compute) and not all(run.plan.compute)
            meta = {"network": on_meta(run.network), "moments": on_meta(run.moments)}
            meta |= {"known": on_meta(run.known), "branches": on_meta(run.branches)}
            with torch.inference_mode(), LastCopy(), watch:
                own(replace(run, **meta), noise.to("meta"), solver)
            return noise

        monkeypatch.setattr(module, "denoise", denoise)
    yield watch
    assert watch.operators > 1000 and not watch.waits


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_image_to_video(i2v, watch, solver, forward):
    text = encode_prompts(i2v, "a cat turns its head", "", Silent())
    picture = torch.rand(40, 56, 3, generator=torch.Generator().manual_seed(1))
    condition = condition_on_image(i2v, picture, 64, 48, 9, Silent())
    sample_video(i2v, text, condition, replace(SETTINGS, solver=solver), Silent())


@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_a_clip_of_an_animation(animate, watch, solver, forward):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (9, 64, 64, 3), dtype=torch.uint8, generator=generator)
    text = encode_prompts(animate, "somebody waves", "", Silent())
    condition = condition_animation(animate, frames[0], frames, frames, 64, 64, Silent())
    clip = encode_clip(animate, condition, plan_clips(9, 9, 1)[0], None, Silent())
    noise = draw_noise(clip_shape(clip), make_generator(5))
    sample_clip(animate, text, clip, replace(SETTINGS, solver=solver), noise, Silent())
