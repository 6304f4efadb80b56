"""A quantised layer computes like a plain one, and LoRAs change it exactly and are taken off."""

import gguf
import numpy as np
import pytest
import torch
from torch import nn
from wan_local.wan.deltas import Full, LowRank, WeightPatch, change_bytes
from wan_local.wan.load.gguf_file import GGML_TYPES
from wan_local.wan.quantised import (
    FP8,
    Quantisation,
    QuantisedLinear,
    holds_fp8,
    quantised_names,
)
from wan_local.wan.residency import DevicePlacement, Part, PatchedWeights


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(dtype=torch.float8_e4m3fn, compute=torch.bfloat16, how=None):
    linear = nn.Linear(64, 32).requires_grad_(False).to(compute)
    return QuantisedLinear(linear, randn(32, 64).to(dtype), how or Quantisation(0.5))


def small_patch(strength=1.0, name="weight"):
    factors = LowRank(randn(32, 2, seed=1), randn(2, 64, seed=2), 1.0)
    return WeightPatch("lora", ("lora",), strength, {name: [factors]})


@pytest.mark.parametrize("dtype", FP8)
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16, torch.float16])
def test_a_weight_is_rounded_once(dtype, compute):
    stored = randn(32, 64).to(dtype)
    for how in (Quantisation(), Quantisation(0.37), Quantisation(rows=randn(32, 1).abs())):
        scale = how.factor if how.rows is None else how.rows.double()
        exact = stored.double() * scale
        # half a unit in the last place: what one rounding costs; float32 of a product of float64
        error = (how.decode(stored, compute).double() - exact).abs() / exact.abs().clamp(min=1e-3)
        assert error.max() <= 0.51 * torch.finfo(compute).eps


@pytest.mark.parametrize("kind", sorted(GGML_TYPES))
def test_ggml_blocks_are_those_of_the_gguf_package(kind):
    """Random bytes are valid blocks but for their float16 scales, which could be no numbers."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    raw = np.random.RandomState(0).randint(0, 256, (8, 4 * size), np.uint8)
    with np.errstate(invalid="ignore"):
        expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[kind])
    found = Quantisation(ggml=kind).decode(torch.from_numpy(raw), torch.float32)
    assert found.shape == (8, 4 * block)
    usable = np.isfinite(expected)
    assert usable.mean() > 0.5
    np.testing.assert_allclose(found.numpy()[usable], expected[usable], rtol=1e-6)


def test_forward_takes_the_type_of_its_input():
    module = layer()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = randn(3, 64).to(dtype)
        expected = nn.functional.linear(x, module.decoded(dtype), module.bias.to(dtype))
        assert torch.equal(module(x), expected)


def test_changes_are_added_in_float32_and_rounded_once_and_take_no_room_of_a_whole_weight():
    module = layer()
    part = Part("transformer", lambda: module, DevicePlacement("cpu"))
    before, x = module.stored.clone(), randn(3, 64).bfloat16()
    plain = module(x)
    with part.patched(small_patch(0.7)).on_device() as patched:
        factors = small_patch().deltas["weight"][0]
        expected = before.float() * 0.5 + 0.7 * 0.5 * (factors.up @ factors.down)
        assert patched.weight is None and patched.stored.dtype is torch.float8_e4m3fn
        assert torch.equal(patched.decoded(torch.bfloat16), expected.bfloat16())
        assert not torch.equal(patched(x), plain)
    with part.on_device() as again:
        assert again.changes == ()
        assert torch.equal(again.stored.view(torch.uint8), before.view(torch.uint8))
        assert torch.equal(again(x), plain)


def test_a_failure_while_patching_leaves_the_weights_as_they_were():
    module = nn.Sequential(layer(), layer())
    before = [part.stored.clone().view(torch.uint8) for part in module]
    deltas = {"0.weight": [Full(randn(32, 64))], "1.weight": [Full(None)]}
    with pytest.raises(AttributeError):
        PatchedWeights(module).apply((WeightPatch("x", ("x",), 1.0, deltas),))
    assert all(part.changes == () for part in module)
    found = [part.stored.view(torch.uint8) for part in module]
    assert all(torch.equal(a, b) for a, b in zip(found, before, strict=True))


def test_stored_weights_are_as_small_as_in_the_file():
    module = nn.Sequential(layer(), nn.Linear(32, 32))
    assert module[0].stored.nbytes == 32 * 64
    assert quantised_names(module) == ["0.weight"]
    assert module.to("cpu")[0].stored.dtype is torch.float8_e4m3fn


def test_bytes_that_patches_add_are_counted():
    module = nn.Sequential(layer(), nn.Linear(32, 32))
    factors = 4 * (32 * 2 + 2 * 64)
    assert change_bytes((small_patch(name="0.weight"),) * 2, quantised_names(module)) == 2 * factors
    assert change_bytes((small_patch(name="1.weight"),), quantised_names(module)) == 0


def test_the_cpu_holds_fp8_and_the_meta_device_cannot_be_asked():
    assert holds_fp8(torch.device("cpu"), torch.float32)
    assert not holds_fp8(torch.device("meta"), torch.float32)
