"""Linear layers in float8, on the CPU, which multiplies by the same rules."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import nn
from wan_local.wan.deltas import Full
from wan_local.wan.encode.condition import condition_on_image
from wan_local.wan.encode.prompt import encode_prompts
from wan_local.wan.errors import InputError
from wan_local.wan.kernels import as_loaded, fp8_problem, in_fp8
from wan_local.wan.progress import Silent
from wan_local.wan.quantised import Quantisation, QuantisedLinear
from wan_local.wan.sample.attention import scaled_dot_product
from wan_local.wan.sample.block import cross_keys, run_block
from wan_local.wan.sample.guidance import Guidance
from wan_local.wan.sample.rope import Rotary
from wan_local.wan.sample.settings import SampleOptions, SampleSettings
from wan_local.wan.sample.video import sample_video

CPU, HALF = torch.device("cpu"), torch.bfloat16
DIM, HEADS, WIDE, TOKENS = 128, 4, 512, 60
pytestmark = pytest.mark.skipif(
    fp8_problem(CPU, HALF) is not None, reason="this PyTorch has no float8 products on the CPU"
)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def away(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture
def layer():
    made = nn.Linear(64, 48).requires_grad_(False)
    made.weight.copy_(numbers(48, 64, seed=1) * torch.logspace(-2, 2, 48)[:, None])
    made.bias.copy_(numbers(48, seed=2))
    return made.to(HALF)


def test_rows_have_scales_of_their_own(layer):
    """Rows of the weight differ ten thousandfold here, and tokens a millionfold."""
    x = (numbers(1, TOKENS, 64) * torch.logspace(-3, 3, TOKENS)[:, None]).to(HALF)
    layer.bias.zero_()
    (found,) = in_fp8([layer], x)
    (expected,) = as_loaded([layer.float()], x.float())
    assert found.dtype is HALF and found.shape == (1, TOKENS, 48)
    for axis in (0, 1):
        apart = (found.float() - expected)[0].norm(dim=axis) / expected[0].norm(dim=axis)
        assert apart.max() < 0.3  # one number may stand for a row; with one scale it is 1


def test_the_bias_is_added(layer):
    x = torch.zeros(1, 16, 64, dtype=HALF)
    (found,) = in_fp8([layer], x)
    assert torch.equal(found, layer.bias.expand(1, 16, 48))


@pytest.mark.parametrize("rows", [False, True])
def test_weights_that_are_float8_are_used_as_they_are(layer, rows):
    stored = layer.weight.float().clamp(-448, 448).to(torch.float8_e4m3fn)
    factors = (torch.arange(48).float()[:, None] + 1) / 48 if rows else None
    quantised = QuantisedLinear(layer, stored, Quantisation(0.5, factors))
    x = numbers(1, TOKENS, 64, seed=3).to(HALF)
    (found,) = in_fp8([quantised], x)
    kept, scale = quantised.as_fp8()
    assert kept.data_ptr() == quantised.stored.data_ptr()
    assert torch.equal(kept.float() * scale, quantised.decoded(torch.float32))
    assert away(found, quantised.float()(x.float())) < 0.04


def test_what_a_lora_adds_is_multiplied_too(layer):
    stored = layer.weight.float().clamp(-448, 448).to(torch.float8_e4m3fn)
    quantised = QuantisedLinear(layer, stored, Quantisation())
    quantised.changes = ((2.0, Full(numbers(48, 64, seed=4) * 100)),)
    x = numbers(1, TOKENS, 64, seed=3).to(HALF)
    assert quantised.as_fp8() is None
    assert away(in_fp8([quantised], x)[0], quantised(x.float())) < 0.05


def test_a_block_is_off_by_at_most_three_hundredths():
    torch.manual_seed(0)
    block = WanTransformerBlock(DIM, WIDE, HEADS, cross_attn_norm=True, added_kv_proj_dim=DIM)
    block.eval().requires_grad_(False)
    x, context = numbers(1, TOKENS, DIM), numbers(1, 5 + 512, DIM, seed=1)
    modulation = numbers(1, 6, DIM, seed=2) * 0.3
    angles = numbers(1, TOKENS, 1, DIM // HEADS // 2, seed=3)
    both = angles.repeat_interleave(2, -1)
    rotary = Rotary.of((both.cos(), both.sin()))
    expected = block(x, context, modulation, rotary.tables)
    block.to(HALF)
    for norm in (block.norm1, block.norm2, block.norm3):
        norm.float()
    block.scale_shift_table.data = block.scale_shift_table.data.float()
    found = {}
    for product in (as_loaded, in_fp8):
        state = x.to(HALF)
        keys = cross_keys(block.attn2, context.to(HALF), 512, 0)
        run_block(block, [state], [keys], modulation, rotary, scaled_dot_product, product)
        found[product] = away(state, expected)
    assert found[as_loaded] < 5e-3 < found[in_fp8] < 3e-2


@pytest.fixture(scope="module")
def run(i2v):
    text = encode_prompts(i2v, "a cat", "", Silent())
    picture = torch.rand(40, 56, 3, generator=torch.Generator().manual_seed(1))
    condition = condition_on_image(i2v, picture, 64, 48, 5, Silent())
    settings = SampleSettings(steps=2, guidance=Guidance(1.0), seed=7)

    class Notes(Silent):
        def __init__(self):
            self.notes = []

        def note(self, text):
            self.notes.append(text)

    def sample(linears):
        notes = Notes()
        chosen = replace(settings, options=SampleOptions(linears=linears))
        return sample_video(i2v, text, condition, chosen, notes).latents, notes.notes

    return sample


def test_where_it_cannot_be_used_it_is_said_and_nothing_changes(run):
    plain, _ = run("as loaded")
    found, notes = run("fp8")
    assert torch.equal(found, plain)  # the miniature computes in float32 on the CPU
    assert any("fp8 cannot be used (they give bfloat16" in note for note in notes)


def test_another_word_is_refused(run):
    with pytest.raises(InputError, match="linears is 'int4'"):
        run("int4")
