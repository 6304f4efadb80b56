"""The ways that only some devices take, tried on the CPU."""

import pytest
import torch
from torch.nn import functional
from wan_local.wan.autoencoder import arithmetic
from wan_local.wan.autoencoder.arithmetic import Norm, convolve, convolves_whole, prepare_kernel


@pytest.fixture(autouse=True)
def fixed():
    torch.manual_seed(0)
    convolves_whole.cache_clear()
    yield
    convolves_whole.cache_clear()


def wan_norm(channels):
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm

    norm = WanRMS_norm(channels, images=False).requires_grad_(False)
    norm.gamma.add_(torch.randn_like(norm.gamma))
    return norm


@pytest.mark.parametrize("way", ["in_one_kernel", "step_by_step"])
@pytest.mark.parametrize("is_activated", [False, True])
def test_both_norms_equal_the_stock_one(way, is_activated):
    module, pixels = wan_norm(24), torch.randn(2, 5, 7, 24)
    pixels[0, 0, 0] = 0  # a pixel without length is divided by no zero
    pixels[0, 0, 1] = 1e-9
    expected = module(pixels.permute(3, 0, 1, 2)[None])[0].permute(1, 2, 3, 0)
    found = torch.empty_like(pixels)
    getattr(Norm(module, torch.float32), way)(pixels, found, is_activated)
    torch.testing.assert_close(found, functional.silu(expected) if is_activated else expected)


@pytest.mark.parametrize("way", ["in_one_kernel", "step_by_step"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lengths_are_measured_in_full_precision(way, dtype):
    # As long as these are no numbers of fp16 are.
    module, pixels = wan_norm(256), (5000 + 100 * torch.randn(4, 4, 256)).to(dtype)
    expected = module(pixels.float().permute(2, 0, 1)[None, :, None])[0, :, 0].permute(1, 2, 0)
    found = torch.empty_like(pixels)
    getattr(Norm(module, dtype), way)(pixels, found, False)
    steps = 2 * torch.finfo(dtype).eps  # rounded at most three times, by half a step each
    assert ((found.float() - expected).abs() <= steps * expected.abs()).all()


@pytest.mark.parametrize("frames", [1, 3, 6])
def test_one_convolution_and_three_are_the_same(monkeypatch, frames):
    pixels, weight, bias = torch.randn(frames, 6, 8, 5), torch.randn(7, 5, 3, 3, 3), torch.randn(7)
    video = pixels.permute(3, 0, 1, 2)[None]
    if frames == 1:  # nothing but zeros before it
        video = torch.cat([torch.zeros_like(video)] * 2 + [video], dim=2)
    expected = functional.conv3d(video, weight, bias, padding=(0, 1, 1))[0].permute(1, 2, 3, 0)
    for is_whole in (False, True):
        monkeypatch.setattr(arithmetic, "convolves_whole", lambda *_, whole=is_whole: whole)
        kernel = prepare_kernel(weight, torch.float32)
        assert len(kernel) == (2 if is_whole else 3)
        torch.testing.assert_close(convolve(pixels, kernel, bias), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("device", "dtype", "cudnn", "is_whole"),
    [
        ("cpu", torch.float32, None, False),
        ("cuda", torch.bfloat16, 90701, True),
        ("cuda", torch.bfloat16, 91002, False),
        ("cuda", torch.float16, 91300, False),
        ("cuda", torch.float32, 91002, True),
        ("cuda", torch.bfloat16, 91500, True),
        ("mps", torch.float16, None, True),
    ],
)
def test_half_precision_keeps_away_from_what_pytorch_lets_no_cudnn_do(
    monkeypatch, device, dtype, cudnn, is_whole
):
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    monkeypatch.setattr(torch.version, "hip", None)
    assert convolves_whole(torch.device(device), dtype) is is_whole
