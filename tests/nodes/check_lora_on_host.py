"""Run by test_lora_node.py inside a host's own Python: LoRAs through its ModelPatcher."""

import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from host_process import TINY

# isort: split
import comfy.model_management as memory
import torch
from safetensors.torch import load_file, save_file
from wan_local.nodes.host_memory import HostPlacement
from wan_local.wan.deltas import Full, LowRank, WeightPatch
from wan_local.wan.load.transformer import load_transformer
from wan_local.wan.quantised import quantised_layer, quantised_names
from wan_local.wan.residency import DevicePlacement, Part

FILE = TINY / "diffusers/wan2.2-animate/transformer"


def randn(*shape):
    return torch.randn(*shape, generator=generator)


def make_patch(shapes, strength):
    """Factors for matrices and convolutions, differences for all else; two for one of them."""
    deltas = {}
    for name, shape in shapes.items():
        if len(shape) > 1 and "table" not in name and "padding" not in name:
            alpha = 1.0 if "to_q" in name else None
            deltas[name] = [LowRank(randn(shape[0], 2), randn(2, shape[1:].numel()), alpha)]
        else:
            deltas[name] = [Full(randn(*shape))]
    deltas["proj_out.weight"].append(Full(randn(*shapes["proj_out.weight"])))
    return WeightPatch("x", ("x", strength), strength, deltas)


def weights(part):
    """All parameters; quantised ones beside what is computed with them."""
    with part.on_device(10**6) as module:
        found = {name: tensor.clone() for name, tensor in module.named_parameters()}
        for name in quantised_names(module):
            found[name] = quantised_layer(module, name).decoded(torch.bfloat16)
        return found


def check(dtype):
    def part(placement):
        return Part("transformer", lambda: load_transformer(FILE, dtype), placement)

    plain, ours = part(HostPlacement()), part(DevicePlacement("cpu"))
    before = weights(plain)
    shapes = {name: tensor.shape for name, tensor in before.items()}
    one, two = make_patch(shapes, 0.8), make_patch(shapes, -1.3)
    stacks = [(one,), (two,), (one, two), (two, one), ()]
    for patches in [*stacks, *reversed(stacks), (one,)]:
        hosted, expected = plain, ours
        for patch in patches:
            hosted, expected = hosted.patched(patch), expected.patched(patch)
        found, wanted = weights(hosted), weights(expected)
        for name, tensor in found.items():
            assert torch.equal(tensor, wanted[name]), (dtype, patches, name)
            assert bool(patches) != torch.equal(tensor, before[name]), (dtype, name)
    check_work(plain, plain.patched(one), shapes, before)


def check_work(plain, patched, shapes, before):
    """No work twice, nothing lost by an eviction or an exception, nothing left behind."""
    with patched.on_device(0) as module:
        place = module.blocks[0].attn1.to_q.weight.data_ptr()
    with plain.patched(patched.patches[0]).on_device(0) as module:
        assert module.blocks[0].attn1.to_q.weight.data_ptr() == place
    changed = weights(patched)
    memory.unload_all_models()
    with plain._source.owned._turns.take((), lambda _: None, lambda: None):
        current = plain._source.owned._plain.model.model.state_dict()
        assert all(torch.equal(current[name], tensor) for name, tensor in before.items())
    assert all(torch.equal(tensor, changed[name]) for name, tensor in weights(patched).items())
    try:
        with patched.on_device(0):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(plain).items())
    del patched
    assert len(memory.current_loaded_models) == 1
    unknown = WeightPatch("bad", ("bad",), 1.0, {"blocks.9.nothing": [Full(torch.zeros(1))]})
    try:
        weights(plain.patched(unknown))
    except RuntimeError as error:
        assert "blocks.9.nothing" in str(error)
    else:
        raise AssertionError("an unknown weight was taken")


def write_fp8(folder):
    """The transformer with the matrices of its blocks in fp8."""
    tensors = {
        n: t.to(torch.float8_e4m3fn) if n.startswith("blocks.") and t.ndim == 2 else t
        for n, t in load_file(FILE / "diffusion_pytorch_model.safetensors").items()
    }
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    shutil.copy(FILE / "config.json", folder)


def check_fp8(folder):
    """Weights that the host moves and we patch, beside weights that it patches."""

    def part(placement):
        return Part("transformer", lambda: load_transformer(folder, torch.bfloat16), placement)

    hosted, expected = part(HostPlacement()), part(DevicePlacement("cpu"))
    before = weights(hosted)
    assert before["blocks.0.attn1.to_q.stored"].dtype is torch.float8_e4m3fn
    shapes = {n: t.shape for n, t in before.items() if not n.endswith(".stored")}
    patch = make_patch(shapes, 0.8)
    found, wanted = weights(hosted.patched(patch)), weights(expected.patched(patch))
    assert found.keys() == before.keys() == wanted.keys()
    for name, tensor in found.items():
        assert torch.equal(as_bytes(tensor), as_bytes(wanted[name])), name
        is_same = torch.equal(as_bytes(tensor), as_bytes(before[name]))
        assert is_same == name.endswith(".stored"), name
    for name, tensor in weights(hosted).items():
        assert torch.equal(as_bytes(tensor), as_bytes(before[name])), name


def as_bytes(tensor):
    """Comparable in every type."""
    return tensor.contiguous().view(torch.uint8)


generator = torch.Generator().manual_seed(0)
with torch.inference_mode():
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        check(kind)
    with tempfile.TemporaryDirectory() as temporary:
        write_fp8(Path(temporary))
        check_fp8(Path(temporary))
