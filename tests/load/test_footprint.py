"""What the header says a model will take is what it takes, in every format."""

import pytest
import torch
from formats import FP8, gguf_file, scaled_fp8
from wan_local.wan.load.footprint import weight_footprint
from wan_local.wan.load.inspect import Kind
from wan_local.wan.load.text import load_text_encoder
from wan_local.wan.load.transformer import load_transformer
from wan_local.wan.residency.ring import find_stack, footprint


def files(tiny, folder):
    source = tiny / "comfyui/diffusion_models/wan2.1_i2v_tiny.safetensors"
    yield source, False
    yield scaled_fp8(source, folder / "fp8.safetensors", FP8["e4m3fn"], "scale_weight"), False
    yield folder / "fp8.safetensors", True
    yield gguf_file(source, folder / "wan.gguf", "Q4_0"), False
    yield tiny / "diffusers/wan2.1-i2v/transformer", False


def test_every_format(tiny, tmp_path):
    seen = []
    for path, unpack in files(tiny, tmp_path):
        told = weight_footprint(path, Kind.TRANSFORMER, torch.float32, unpack)
        module = load_transformer(path, torch.float32, unpack)
        found = footprint(module, find_stack(module, "blocks"))
        # Rope tables are in no file; and a ring aligns every tensor, which in a miniature weighs
        # something.
        tables = sum(buffer.nbytes for buffer in module.rope.buffers())
        assert told.weights == pytest.approx(found.weights - tables, rel=0.05), path
        assert told.stack == found.stack, path
        assert told.block == pytest.approx(found.block, rel=0.2), path
        seen.append(told.stack)
    plain, fp8, unpacked, gguf, folder = seen
    assert plain == unpacked == folder and 4 * fp8 < 1.5 * plain and gguf < plain


def test_a_text_encoder(tiny):
    path = tiny / "diffusers/wan2.1-i2v/text_encoder"
    told = weight_footprint(path, Kind.TEXT_ENCODER, torch.float32, False)
    module = load_text_encoder(path, torch.float32)
    found = footprint(module, find_stack(module, "encoder.block"))
    assert told.weights == pytest.approx(found.weights, rel=0.05)
    assert told.stack == pytest.approx(found.stack, rel=0.05)


def test_a_file_that_cannot_be_read_is_for_the_loader_to_explain(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    told = weight_footprint(tmp_path / "x.safetensors", Kind.VAE, torch.float32, False)
    assert (told.weights, told.stack) == (0, 0)
