"""Writes the miniatures in the quantised formats that people download."""

import json

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

FP8 = {"e4m3fn": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def is_layer(name, tensor):
    """Whether the published fp8 files quantise this tensor: matrices inside the blocks."""
    pieces = ("attn", "ffn", "fuser_blocks.0.linear", "SelfAttention", "DenseReluDense")
    wanted = any(piece in name for piece in pieces) and name.endswith(".weight")
    return wanted and tensor.ndim == 2 and "relative_attention" not in name and "norm" not in name


def encode_fp8(tensor, dtype, per_row=False):
    """The fp8 weight and its scale, by the largest number of the weight or of each row."""
    largest = tensor.abs().amax(1, keepdim=True) if per_row else tensor.abs().max()
    scale = largest / torch.finfo(dtype).max
    return (tensor / scale).to(dtype), scale


def write(path, tensors, like=None):
    """Save tensors; the metadata is that of the file they were made from."""
    metadata = {"format": "pt"}
    if like is not None:
        with safe_open(like, "pt") as file:
            metadata = file.metadata() or metadata
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata)
    return path


def plain_fp8(source, path, dtype):
    """kijai's `_fp8_e4m3fn` files: layers in fp8, the rest in bf16 and fp32."""
    tensors = {n: t.to(dtype) if is_layer(n, t) else t for n, t in load_file(source).items()}
    return write(path, tensors, source)


def scaled_fp8(source, path, dtype, spelling, per_row=False):
    """Scaled fp8 in the spelling of ComfyUI up to 0.3, of 0.12, or of LightX2V."""
    tensors = {}
    for name, tensor in load_file(source).items():
        if not is_layer(name, tensor):
            tensors[name] = tensor
            continue
        layer = name.removesuffix(".weight")
        tensors[name], scale = encode_fp8(tensor, dtype, per_row)
        if spelling == "scale_weight":
            tensors[f"{layer}.scale_weight"] = scale
            tensors[f"{layer}.scale_input"] = torch.tensor(1.0)
        else:
            tensors[f"{layer}.weight_scale"] = scale
        if spelling == "comfy_quant":
            kind = "float8_e5m2" if dtype is torch.float8_e5m2 else "float8_e4m3fn"
            text = json.dumps({"format": kind}).encode()
            tensors[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
            tensors[f"{layer}.input_scale"] = torch.tensor(1.0)
    if spelling == "scale_weight":
        first = next(iter(tensors))
        prefix = "model.diffusion_model." if first.startswith("model.diffusion_model.") else ""
        tensors[f"{prefix}scaled_fp8"] = torch.zeros(2, dtype=dtype)
    return write(path, tensors, source)


def gguf_file(source, path, kind, names=None, flat_convolutions=False):
    """A GGUF file as city96's converter writes it: what does not fill whole blocks stays float.

    Args:
        source: a file with original names.
        kind: "Q8_0", "BF16", ...
        names: other names for the tensors.
        flat_convolutions: store five axes as four, with the shape in the metadata.
    """
    import gguf
    import numpy as np

    quantised = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(str(path), "wan")
    with safe_open(source, "pt") as file:
        for key, text in (file.metadata() or {}).items():
            writer.add_string(key, text)
    for name, tensor in load_file(source).items():
        name = (names or {}).get(name, name)
        numbers = tensor.float().numpy()
        if tensor.ndim == 5 and flat_convolutions:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(tensor.shape))
            numbers = numbers.reshape(tensor.shape[0], tensor.shape[1], -1, 1)
        block = gguf.GGML_QUANT_SIZES[quantised][0]
        if tensor.ndim == 2 and tensor.shape[-1] % block == 0:
            writer.add_tensor(name, gguf.quants.quantize(numbers, quantised), raw_dtype=quantised)
        elif tensor.ndim == 2:
            writer.add_tensor(name, numbers.astype(np.float16))
        else:
            writer.add_tensor(name, numbers)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama_names(standard):
    """llama.cpp's name of each tensor of a UMT5 (gguf-py tensor_mapping.py)."""
    pieces = {
        "layer.0.layer_norm": "attn_norm",
        "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
        **{f"layer.0.SelfAttention.{n}": f"attn_{n}" for n in "qkvo"},
        "layer.1.layer_norm": "ffn_norm",
        "layer.1.DenseReluDense.wi_0": "ffn_gate",
        "layer.1.DenseReluDense.wi_1": "ffn_up",
        "layer.1.DenseReluDense.wo": "ffn_down",
    }
    names = {"shared.weight": "token_embd.weight"}
    names["encoder.final_layer_norm.weight"] = "enc.output_norm.weight"
    for name in standard:
        for theirs, ours in pieces.items():
            if name.startswith("encoder.block.") and name.endswith(f".{theirs}.weight"):
                names[name] = f"enc.blk.{name.split('.')[2]}.{ours}.weight"
    return names
