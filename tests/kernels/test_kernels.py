"""The fused steps against their formulas, by whatever computes them."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from wan_local.wan import kernels
from wan_local.wan.kernels import eager, fused
from wan_local.wan.kernels.choice import choose, wanted
from wan_local.wan.kernels.ops import operators

ROOT = Path(__file__).resolve().parents[2]
TOKENS, HEADS, HEAD_DIM = 7, 3, 8
CHANNELS = HEADS * HEAD_DIM
# Rounding to the type, about half of the last of its digits.
CLOSE = {torch.float32: 3e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def numbers(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def close(found, expected, dtype):
    assert found.dtype is dtype
    scale = expected.abs().max()
    assert ((found.double() - expected).abs().max() / scale) < CLOSE[dtype]


@pytest.fixture(params=["eager", "operator"])
def steps(request, monkeypatch):
    made = eager if request.param == "eager" else operators()
    monkeypatch.setattr(fused, "_implementation", lambda x: made)
    return kernels


@pytest.fixture(params=CLOSE, ids=str)
def dtype(request):
    return request.param


@pytest.fixture
def x(dtype):
    return numbers(1, TOKENS, CHANNELS, dtype=dtype) * 3 + 1


def vectors(count):
    return [numbers(CHANNELS, seed=seed + 10) for seed in range(count)]


def norm(x, scale, shift, eps=1e-6):
    wide = x.double()
    mean, spread = wide.mean(-1, keepdim=True), wide.var(-1, keepdim=True, unbiased=False)
    return (wide - mean) / (spread + eps).sqrt() * scale.double() + shift.double()


def test_normalise(steps, x, dtype):
    scale, shift = vectors(2)
    before = x.clone()
    close(steps.normalise(x, scale, shift, 1e-6), norm(x, scale, shift), dtype)
    assert torch.equal(x, before)


@pytest.mark.parametrize("gated", [True, False])
def test_gated_add(steps, x, dtype, gated):
    change, gate = numbers(1, TOKENS, CHANNELS, dtype=dtype, seed=3), vectors(1)[0]
    factor = gate.double() if gated else 1
    expected = x.double() + change.double() * factor
    assert steps.gated_add(x, change, gate if gated else None) is None
    close(x, expected, dtype)


@pytest.mark.parametrize("gated", [True, False])
def test_add_and_normalise(steps, x, dtype, gated):
    change = numbers(1, TOKENS, CHANNELS, dtype=dtype, seed=3)
    gate, scale, shift = vectors(3)
    total = x.double() + change.double() * (gate.double() if gated else 1)
    normed = steps.add_and_normalise(x, change, gate if gated else None, scale, shift, 1e-6)
    close(x, total, dtype)
    close(normed, norm(total, scale, shift), dtype)


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("tokens", [TOKENS, 3000])  # few calls, or few passes
def test_turn(steps, dtype, turned, tokens):
    x = numbers(1, tokens, CHANNELS, dtype=dtype) * 3 + 1
    weight = vectors(1)[0].to(dtype)
    angles = numbers(1, tokens, 1, HEAD_DIM // 2, seed=5)
    wide = x.double()
    normed = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    pairs = torch.view_as_complex(normed.unflatten(-1, (HEADS, -1, 2)).contiguous())
    if turned:
        pairs = pairs * torch.polar(torch.ones_like(angles), angles).to(torch.complex128)
    tables = (angles.cos(), angles.sin()) if turned else (None, None)
    close(steps.turn(x, weight, 1e-6, *tables), torch.view_as_real(pairs).flatten(-3), dtype)


def test_both_ways_to_turn_pairs_are_the_same():
    """Some devices have no complex numbers."""
    pairs = numbers(1, TOKENS, HEADS, HEAD_DIM // 2, 2)
    angles = numbers(1, TOKENS, 1, HEAD_DIM // 2, seed=5)
    given = angles.cos(), angles.sin()
    real = eager.turn_as_real(pairs, *given)  # the other one works in place
    assert not torch.allclose(real, pairs, atol=1e-2)
    assert torch.allclose(eager.turn_as_complex(pairs, *given), real, atol=1e-6)


def test_gelu(steps, x, dtype):
    expected = functional.gelu(x.double(), approximate="tanh")
    assert steps.gelu(x) is None
    close(x, expected, dtype)


def test_operators_say_what_they_change():
    """PyTorch's own look at an operator: does it change only what it says, does meta fit?"""
    x, change = numbers(1, TOKENS, CHANNELS), numbers(1, TOKENS, CHANNELS, seed=1)
    gate, scale, shift = vectors(3)
    angle = numbers(1, TOKENS, 1, HEAD_DIM // 2)
    calls = {
        "normalise": (x, scale, shift, 1e-6),
        "gated_add": (x, change, gate),
        "add_and_normalise": (x, change, gate, scale, shift, 1e-6),
        "turn": (x, scale, 1e-6, angle, angle),
        "gelu": (x,),
    }
    for name, given in calls.items():
        operator = getattr(operators(), name).default
        fresh = tuple(v.clone() if isinstance(v, torch.Tensor) else v for v in given)
        torch.library.opcheck(operator, fresh, test_utils=("test_schema", "test_faketensor"))


@pytest.fixture
def ask(monkeypatch):
    """Sets the environment variable, which is otherwise read once."""

    def ask(kind):
        monkeypatch.setenv("WAN_LOCAL_KERNELS", kind)
        wanted.cache_clear()

    yield ask
    monkeypatch.undo()
    wanted.cache_clear()


def test_the_choice(ask):
    assert choose("cpu") == "eager" and kernels.report("cpu") == "PyTorch"
    ask("compile")
    assert choose("cpu") == choose("cuda") == "compile"
    ask("eager")
    assert choose("cuda") == "eager"
    ask("anything else")
    has = importlib.util.find_spec("triton") is not None
    assert choose("cuda") == ("triton" if has else "eager") and choose("cpu") == "eager"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler here")
def test_compiled_steps(ask):
    ask("compile")
    x, change = numbers(1, TOKENS, CHANNELS), numbers(1, TOKENS, CHANNELS, seed=1)
    gate, scale, shift = vectors(3)
    total = x + change * gate
    normed = kernels.add_and_normalise(x, change, gate, scale, shift, 1e-6)
    close(x, total.double(), torch.float32)
    close(normed, norm(total, scale, shift), torch.float32)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="Triton is not installed")
def test_triton_kernels_interpreted():
    """The same checks of the same source, run number by number on the CPU."""
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-v", str(Path(__file__).parent / "triton_check.py")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout and "skipped" not in done.stdout
