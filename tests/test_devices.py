"""Every stage on a device that is not the CPU: PyTorch's meta device, which follows shapes and types.

What it finds: tensors that stay on another device, as a GPU would refuse them, and float64, which
Apple's GPUs have not.
"""

from contextlib import contextmanager

import pytest
import torch
from conftest import open_tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from wan_local.wan.decode.vae import decode_video
from wan_local.wan.encode.latents import encode_chunks
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.geometry import LatentShape
from wan_local.wan.payloads import VideoLatents
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement, default_dtype
from wan_local.wan.residency.offload import can_stream
from wan_local.wan.residency.weights import slots_of
from wan_local.wan.sample.cache import ResidualCache
from wan_local.wan.sample.cross import Branch
from wan_local.wan.sample.face import embed_face, encode_motion
from wan_local.wan.sample.forward import (
    Network,
    Step,
    embed_context,
    embed_pose,
    embed_time,
    predict_velocities,
)
from wan_local.wan.sample.rope import Riflex, Rotary, rotary_tables

META = torch.device("meta")
HALF = torch.bfloat16


class Watch(TorchDispatchMode):
    """Notes which types of numbers were made on the device; what comes back from it is empty."""

    def __init__(self):
        super().__init__()
        self.types, self.operations = set(), 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        name = function.overloadpacket.__name__
        source = next((a for a in reversed(arguments) if isinstance(a, torch.Tensor)), None)
        if source is not None and source.is_meta:
            given = [*arguments, *options.values()]
            to = next((g for g in given if isinstance(g, torch.device)), META)
            if name in ("_to_copy", "to") and to.type == "cpu":
                kind = next((g for g in given if isinstance(g, torch.dtype)), source.dtype)
                return torch.empty(source.shape, dtype=kind)
            if name == "copy_" and not arguments[0].is_meta:
                return arguments[0]
        result = function(*arguments, **options)
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                self.types.add(tensor.dtype)
                self.operations += 1
        return result


@contextmanager
def elsewhere(module, dtype=None):
    """The module on the meta device inside the block."""
    slots = slots_of(module)
    real = [slot.tensor for slot in slots]
    with Watch() as watch, torch.no_grad():
        for slot, tensor in zip(slots, real, strict=True):
            kind = dtype if dtype and tensor.is_floating_point() else tensor.dtype
            slot.put(torch.empty(tensor.shape, dtype=kind, device=META))
        try:
            yield watch
        finally:
            for slot, tensor in zip(slots, real, strict=True):
                slot.put(tensor)
    assert watch.operations > 20
    assert torch.float64 not in watch.types


class Ready:
    """Stands in for a part whose module is on the device already."""

    def __init__(self, module, part):
        self._module, self._part = module, part
        part.memo.clear()

    def __getattr__(self, name):
        return getattr(self._part, name)

    @contextmanager
    def on_device(self, memory_required=0):
        yield self._module


def ready(model, name):
    from dataclasses import replace

    part = getattr(model, name)
    with part.on_device() as module:
        return replace(model, **{name: Ready(module, part)}), module


def test_sampling(tiny):
    model, module = ready(open_tiny(tiny, "I2V"), "transformer")
    with elsewhere(module, HALF):
        hidden = torch.empty(1, 36, 3, 8, 8, dtype=HALF, device=META)
        text = torch.empty(1, 512, model.config["text_dim"], dtype=HALF, device=META)
        images = torch.empty(1, 5, model.config["image_dim"], dtype=HALF, device=META)
        branches = [Branch(embed_context(module, text, images))] * 2
        rotary = rotary_tables(module.rope, LatentShape(3, 8, 8), Riflex(force=True), hidden.device)
        cache = Step(ResidualCache(), is_reused=True, numbers=(0, 1))
        network, moment = (
            Network(module, Rotary.of(rotary)),
            embed_time(module, torch.tensor([500]), hidden),
        )
        for result in predict_velocities(network, hidden, moment, branches, cache, int):
            assert result.is_meta and result.shape == (1, 16, 3, 8, 8)


def test_animating(tiny):
    model, module = ready(open_tiny(tiny, "ANIMATE"), "transformer")
    size = model.config["motion_encoder_size"]
    with elsewhere(module, HALF):
        hidden = torch.empty(1, 36, 3, 8, 8, dtype=HALF, device=META)
        pose = embed_pose(module, torch.empty(1, 16, 2, 8, 8, dtype=HALF, device=META))
        motion = encode_motion(module, torch.empty(5, 3, size, size), int)
        text = torch.empty(1, 512, model.config["text_dim"], dtype=HALF, device=META)
        images = torch.empty(1, 5, model.config["image_dim"], dtype=HALF, device=META)
        branch = Branch(embed_context(module, text, images), embed_face(module, motion))
        rotary = rotary_tables(module.rope, LatentShape(3, 8, 8), None, hidden.device)
        network = Network(module, Rotary.of(rotary), pose=pose)
        moment = embed_time(module, torch.tensor([500]), hidden)
        (found,) = predict_velocities(network, hidden, moment, [branch], Step(ResidualCache()), int)
        assert found.is_meta


@pytest.mark.parametrize("tile", [0, 128])
def test_decoding(tiny, tile):
    model, module = ready(open_tiny(tiny, "I2V"), "vae")
    with elsewhere(module):
        video = VideoLatents(torch.empty(1, 16, 2, 18, 24), 5, seed=0)
        assert decode_video(model, video, Silent(), tile).device.type == "cpu"


def test_encoding_frames(tiny):
    _, module = ready(open_tiny(tiny, "I2V"), "vae")
    with elsewhere(module):
        chunks = [torch.empty(1, 3, 1, 64, 64), torch.empty(1, 3, 4, 64, 64)]
        assert encode_chunks(module, chunks, Silent()).device.type == "cpu"


def test_encoding_a_prompt(tiny):
    model, module = ready(open_tiny(tiny, "I2V"), "text_encoder")
    with elsewhere(module, HALF):
        assert encode_prompts(model, "a cat", None, Silent()).positive.device.type == "cpu"
    model.text_encoder.memo.clear()


def test_encoding_a_picture(tiny):
    from wan_local.wan.memo import digest

    model, module = ready(open_tiny(tiny, "I2V"), "image_encoder")
    picture = torch.rand(64, 64, 3)
    digest(picture)
    with elsewhere(module, HALF):
        from wan_local.wan.encode.image import _encode_all

        assert _encode_all(model, [picture], Silent())[0].device.type == "cpu"


def test_interpolating(tiny):
    from wan_local.wan.tiny import tiny_rife_folder
    from wan_local.wan.upsample.rife.load import find_rife, load_rife

    rife = load_rife(find_rife([tiny_rife_folder(tiny)]), DevicePlacement("cpu"))
    with rife.net.on_device() as net:
        pass
    with elsewhere(net, torch.float16):
        first, second = torch.empty(2, 1, 3, 64, 64, dtype=torch.float16, device=META)
        features = (net.encode(first), net.encode(second))
        moment = torch.full((1,), 0.5, device=META)
        assert net(first, second, moment, features, 1.0).is_meta


def test_what_each_device_computes_in():
    assert default_dtype(torch.device("cpu")) is torch.float32
    assert default_dtype(torch.device("mps")) is torch.float16
    assert default_dtype(torch.device("xpu")) is torch.bfloat16


def test_where_streaming_saves_nothing_models_stay_whole():
    """Apple's GPUs use the CPU's memory: there is nothing to stream from."""
    assert not can_stream(torch.device("mps"))
    assert all(can_stream(torch.device(name)) for name in ("cpu", "cuda", "xpu"))
