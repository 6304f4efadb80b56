"""Run by test_memory_on_host.py inside a host's own Python: who has the memory, and who gives it back."""

import gc
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from host_process import TINY

# isort: split
import comfy.model_management as memory
import torch
from wan_local.nodes.host_memory import HostPlacement
from wan_local.wan.decode.vae import decode_video
from wan_local.wan.deltas import LowRank, WeightPatch
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.geometry import LatentShape
from wan_local.wan.load.model import load_model
from wan_local.wan.memory import vae_decode_bytes
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent
from wan_local.wan.residency import Offload
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.settings import SampleSettings
from wan_local.wan.sample.video import sample_video
from wan_local.wan.sample.workload import Workload
from wan_local.wan.tiny import tiny_files

PARTS = ("transformer", "vae", "text_encoder", "image_encoder")


warnings.simplefilter("ignore", FutureWarning)  # of torch, for being looked at


def live_bytes():
    """Of all tensors that anybody holds, each piece of memory once."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


class StopsAt(Silent):
    """Raises when a phase has done so many items."""

    def __init__(self, phase="", done=0, error=None):
        self.phase, self.done, self.error, self.now = phase, done, error, ""

    def start(self, phase, total):
        self.now = phase

    def update(self, done, preview=None):
        if self.error is not None and self.now == self.phase and done == self.done:
            raise self.error


def open_model(offload=Offload.AUTO):
    return load_model(tiny_files(TINY, Variant.I2V), HostPlacement(offload))


def run(model, reporter=None):
    reporter = reporter or Silent()
    text = encode_prompts(model, "a cat", "", reporter)
    condition = condition_on_image(model, torch.full((64, 64, 3), 0.3), 64, 64, 5, reporter)
    settings = SampleSettings(3, Guidance(2.0, cfg_star=False), seed=5)
    latents = sample_video(model, text, condition, settings, reporter)
    return decode_video(model, latents, reporter)


def loaded():
    """Modules that the host has on its device, by the class of what is inside."""
    return [type(m.model.model.model).__name__ for m in memory.current_loaded_models if m.model]


def check_sizes():
    """The host is told what each model takes."""
    model = open_model()
    run(model)
    found = {type(m.model.model.model).__name__: m for m in memory.current_loaded_models}
    assert len(found) == 4, found
    for name in PARTS:
        part = getattr(model, name)
        with part.on_device(0) as module:
            weights = sum(t.nbytes for t in module.state_dict().values())
            entry = next(m for m in memory.current_loaded_models if m.model.model.model is module)
            assert entry.model_memory() == entry.model_loaded_memory() == weights, name


def check_baseline(offload):
    """After a run, an error, an interruption and /free nothing is left."""
    memory.unload_all_models()
    before = live_bytes()
    stop = memory.InterruptProcessingException()
    failures = [("sample", 2, stop), ("sample", 1, ValueError("a bug")), ("decode", 1, stop)]
    failures += [("encode frames", 1, stop), ("encode prompt", 1, KeyboardInterrupt())]
    for phase, done, error in [("", 0, None), *failures]:
        model = open_model(offload)
        try:
            run(model, StopsAt(phase, done, error))
            assert error is None, (phase, done)
        except type(error) as seen:
            assert seen is error
            seen.__traceback__ = None
        del model
        memory.unload_all_models()
        memory.soft_empty_cache()
        error = None
        left = live_bytes() - before
        assert left < 2000, (offload, phase, done, left)
        assert loaded() == []


def check_kept_model(offload):
    """A model that stays in a graph: its weights, and what it encoded; no more with every run."""
    model = open_model(offload)
    run(model)
    memory.unload_all_models()
    after_one = live_bytes()
    for _ in range(3):
        run(model)
    memory.unload_all_models()
    assert live_bytes() <= after_one + 2000
    stop = memory.InterruptProcessingException()
    try:
        run(model, StopsAt("sample", 2, stop))
    except memory.InterruptProcessingException as seen:
        seen.__traceback__ = None
    memory.unload_all_models()
    assert live_bytes() <= after_one + 2000


def check_eviction():
    """Others make room as the host does for them: ours leave, and come back as they were."""
    memory.unload_all_models()
    model = open_model()
    expected = run(model)
    assert len(loaded()) == 4
    memory.free_memory(1e30, memory.get_torch_device())
    assert loaded() == []
    assert torch.equal(run(model), expected)


def check_what_is_asked_for():
    """The host hears what the work needs, so that it makes room before and not too late."""
    model, asked, plain = open_model(), [], memory.load_models_gpu

    def load(models, memory_required=0, **options):
        kind = type(models[0].model.model).__name__
        asked.append((kind, memory_required, options.get("force_full_load")))
        return plain(models, memory_required=memory_required, **options)

    memory.load_models_gpu = load
    try:
        run(model)
    finally:
        memory.load_models_gpu = plain
    needed = {kind: count for kind, count, _ in asked}
    shape = LatentShape(2, 8, 8)
    settings = SampleSettings(3, Guidance(2.0, cfg_star=False))
    assert needed["WanTransformer3DModel"] == Workload(model, shape, settings, 2).nbytes
    assert needed["AutoencoderKLWan"] == vae_decode_bytes(64, 64, 0, 5)
    # A layer that is not the host's own would be left behind by a load in part.
    assert all(is_full for _, _, is_full in asked)


def check_streaming():
    """The same video; the blocks are no part of what the host holds, LoRAs reach them all the same."""
    model, streamed = open_model(), open_model(Offload.BLOCKS)
    assert torch.equal(run(streamed), run(model))
    with streamed.transformer.on_device(0) as module:
        entry = next(m for m in memory.current_loaded_models if m.model.model.model is module)
        assert "blocks" not in dict(module.named_children())
        assert entry.model_memory() == sum(t.nbytes for t in module.state_dict().values())
        assert entry.model_memory() < 0.7 * model.transformer.footprint.weights
    assert streamed.transformer.is_streamed and not model.transformer.is_streamed
    shape = model_shape(model, "blocks.0.ffn.net.0.proj.weight")
    deltas = {
        "blocks.0.ffn.net.0.proj.weight": [
            LowRank(torch.randn(shape[0], 2), torch.randn(2, shape[1]))
        ],
        "proj_out.weight": [LowRank(torch.randn(64, 2), torch.randn(2, shape[1]))],
    }
    patch = WeightPatch("x", ("x",), 0.5, deltas)
    one, other = (replaced(m, m.transformer.patched(patch)) for m in (model, streamed))
    found = run(one)
    assert torch.equal(found, run(other)) and not torch.equal(found, run(model))
    assert torch.equal(run(streamed), run(model))


def model_shape(model, name):
    with model.transformer.on_device(0) as module:
        return module.get_parameter(name).shape


def replaced(model, transformer):
    from dataclasses import replace

    return replace(model, transformer=transformer)


def check_shortage():
    """The host's own exception, once: everything leaves, and the blocks are streamed."""
    model, notes = open_model(), []
    expected = run(model)
    with model.transformer.on_device(0) as module:
        tries = []

        def fail(*_):
            if not tries:
                tries.append(1)
                raise memory.OOM_EXCEPTION("Allocation on device")

        hook = module.proj_out.register_forward_pre_hook(fail)
    reporter = Silent()
    reporter.note = notes.append
    assert torch.equal(run(model, reporter), expected)
    hook.remove()
    assert any("streaming the blocks" in note for note in notes) and model.transformer.is_streamed


with torch.inference_mode():
    run(open_model())  # what libraries keep once they were used
    check_sizes()
    for choice in (Offload.AUTO, Offload.BLOCKS):
        check_baseline(choice)
        check_kept_model(choice)
    check_eviction()
    check_what_is_asked_for()
    check_streaming()
    check_shortage()
