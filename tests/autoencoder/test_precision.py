"""Decoding in half precision on trained weights, and what decides about it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import open_tiny
from PIL import Image
from wan_local.wan.autoencoder import open_decoder
from wan_local.wan.decode.vae import decode_dtype
from wan_local.wan.encode.latents import encode_chunks
from wan_local.wan.latents import latent_statistics
from wan_local.wan.load.model import load_model
from wan_local.wan.load.vae import load_vae
from wan_local.wan.payloads import Variant
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.tiny import tiny_files

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MINI = ASSETS / "wan-mini" / "i2v" / "vae"
GOAL = 45  # decibels; performance.md G6


def filmed_picture(side=96):
    """A camera that passes over the sample picture: 9 frames of [3, H, W] in -1..1."""
    picture = np.asarray(Image.open(ASSETS / "sample.png").convert("RGB"))
    frames = [picture[4 * n : 4 * n + side, 8 * n : 8 * n + side] for n in range(9)]
    return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None] / 127.5 - 1


@pytest.mark.skipif(not MINI.is_dir(), reason="the trained miniatures are not there")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_45_db_on_trained_weights(dtype):
    vae, film = load_vae(MINI), filmed_picture()
    latents = encode_chunks(vae, [film[:, :, :1], *film[:, :, 1:].split(4, dim=2)], Silent())
    mean, std = latent_statistics(vae)

    @torch.inference_mode()
    def decode(dtype):
        walk = open_decoder(vae, dtype)
        pieces = [walk(chunk) for chunk in (latents * std + mean).split(1, dim=2)]
        assert all(piece.dtype is dtype for piece in pieces)
        return torch.cat(pieces, dim=2).float().clamp(-1, 1)

    full = decode(torch.float32)
    error = ((decode(dtype) - full) / 2).square().mean()
    assert 10 * torch.log10(1 / error) > GOAL
    seen = ((full - film) / 2).square().mean()
    assert 10 * torch.log10(1 / seen) > 15  # the picture is recognisable, so there is one to lose


def test_a_gpu_decodes_in_what_it_was_loaded_for_and_the_cpu_in_float32(i2v):
    with i2v.vae.on_device() as vae:
        half = replace(i2v, decode_dtype=torch.bfloat16)
        assert decode_dtype(half, vae) is torch.float32
        elsewhere = torch.nn.Linear(1, 1, device="meta")  # as good as any device but the CPU
        assert decode_dtype(half, elsewhere) is torch.bfloat16


class Elsewhere(DevicePlacement):
    """Says that it is on a GPU; nothing is ever moved there."""

    def __init__(self, device):
        super().__init__("cpu")
        self.device = torch.device(device)


@pytest.mark.parametrize(
    ("device", "dtype", "decodes_in"),
    [
        ("cpu", None, torch.float32),
        ("cpu", torch.bfloat16, torch.float32),
        ("mps", None, torch.float16),
        ("mps", torch.float32, torch.float32),
    ],
)
def test_the_loader_decides_what_is_decoded_in(tiny, device, dtype, decodes_in):
    model = load_model(tiny_files(tiny, Variant.I2V), Elsewhere(device), dtype)
    assert model.decode_dtype is decodes_in
    assert open_tiny(tiny, "I2V").decode_dtype is torch.float32
