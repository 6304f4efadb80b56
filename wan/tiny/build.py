"""Write the miniatures to disk in each layout that real models come in.

diffusers/wan2.1-i2v, wan2.1-flf2v, wan2.2-animate   folders for `from_pretrained`
comfyui/diffusion_models, text_encoders, vae, clip_vision   single files
comfyui/detection   person detectors and pose models as ONNX files
comfyui/frame_interpolation   RIFE, with the layout of 4.7
official/   as the model's authors publish Wan 2.1 I2V: shards, .pth files, google/umt5-xxl
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import OutputError
from ..load.config import METADATA_KEY
from ..load.header import INDEX_SUFFIX
from ..load.image import build_image_encoder
from ..load.keys import IMAGE_ROWS, TEXT_ROWS, to_original, transformer_rows, vae_rows
from ..load.text import build_text_encoder
from ..load.tokenizer import SPIECE_TENSOR
from ..load.transformer import build_transformer
from ..load.vae import build_vae
from ..payloads import Variant
from ..upsample.rife.load import build_rife
from .configs import (
    FOLDERS,
    IMAGE_ENCODER,
    MOTION_BLOCKS,
    RIFE,
    SINGLE_FILES,
    TEXT_ENCODER,
    TRANSFORMERS,
    VAE,
    official_config,
    part_configs,
)
from .onnx import write_onnx
from .tokenizer import sentencepiece_model, tokenizer_json
from .weights import noise, random_rife, random_tensors, random_vae

TINY_VERSION = 4
"""Raise it with every change of what is written, so that older sets are rebuilt."""
_STAMP = "tiny.json"
_PREFIX = "model.diffusion_model."  # ComfyUI's repackaged files have it in some cases
log = logging.getLogger("wan_local")

Tensors = dict[str, Tensor]


def ensure_tiny(folder: Path) -> Path:
    """Build the miniatures in `folder` unless a set of this version is there already.

    Returns:
        `folder`; it holds `diffusers/`, `comfyui/` and `official/`.
    """
    folder = Path(folder)
    if not _is_current(folder):
        log.info("Building the tiny models in %s", folder)
        build_tiny(folder)
    return folder


def build_tiny(folder: Path) -> None:
    """Build the miniatures, replacing an older set. Offline, a few seconds, about 10 MB.

    The set appears in one go: an interrupted build leaves nothing behind that looks finished.
    Two builds are byte-identical.

    Args:
        folder: made if need be. Only an empty folder or one that holds an older set is replaced.
    Raises:
        OutputError: it holds something else.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _STAMP).is_file():
        raise OutputError(
            what=f"'{folder}' is not empty and holds no tiny models.",
            why="Building the set replaces the folder, which would delete what is in it.",
            fix="Name a folder that does not exist yet.",
        )
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _write_all(temporary)
        _write_json(temporary / _STAMP, {"version": TINY_VERSION})
        temporary.chmod(0o755)  # mkdtemp's folders are closed to other users
        if folder.is_dir():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        # another process may have been faster; its set is as good
        if not _is_current(folder):
            raise


def _is_current(folder: Path) -> bool:
    try:
        return json.loads((folder / _STAMP).read_text("utf-8"))["version"] == TINY_VERSION
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_all(root: Path) -> None:
    vae = random_vae("vae", build_vae(VAE))
    text = random_tensors("text", build_text_encoder(TEXT_ENCODER))
    image = random_tensors("image", build_image_encoder(IMAGE_ENCODER))
    image = {name.removeprefix("vision_model."): tensor for name, tensor in image.items()}
    transformers = {
        variant: random_tensors(variant.name, build_transformer(variant, config))
        for variant, config in TRANSFORMERS.items()
    }
    for variant, transformer in transformers.items():
        _write_diffusers(
            root / "diffusers" / FOLDERS[variant], variant, transformer, vae, text, image
        )
    _write_comfyui(root / "comfyui", transformers, vae, text, image)
    write_onnx(root / "comfyui" / "detection")
    _write_rife(root / "comfyui" / "frame_interpolation")
    _write_official(root / "official", transformers[Variant.I2V], vae, text, image)


def _write_diffusers(
    folder: Path,
    variant: Variant,
    transformer: Tensors,
    vae: Tensors,
    text: Tensors,
    image: Tensors,
) -> None:
    for name, content in part_configs(variant).items():
        _write_json(folder / name, content)
    (folder / "tokenizer" / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    weights = "diffusion_pytorch_model.safetensors"
    _write_tensors(folder / "transformer" / weights, transformer)
    _write_tensors(folder / "vae" / weights, vae)
    _write_tensors(folder / "text_encoder" / "model.safetensors", text)
    _write_tensors(
        folder / "image_encoder" / "model.safetensors", _with_prefix(image, "vision_model.")
    )


def _write_comfyui(
    folder: Path, transformers: dict[Variant, Tensors], vae: Tensors, text: Tensors, image: Tensors
) -> None:
    rows = transformer_rows(MOTION_BLOCKS)
    for variant, tensors in transformers.items():
        # both spellings are about: with the prefix and without
        prefix = _PREFIX if variant is Variant.I2V else ""
        original = to_original(tensors, rows) | _blur_kernels(variant)
        heads = TRANSFORMERS[variant]["num_attention_heads"]
        _write_tensors(
            folder / "diffusion_models" / SINGLE_FILES[variant],
            _with_prefix(original, prefix),
            {METADATA_KEY: json.dumps({"num_attention_heads": heads})},
        )
    pieces = torch.frombuffer(bytearray(sentencepiece_model()), dtype=torch.uint8)
    _write_tensors(
        folder / "text_encoders" / "umt5_tiny.safetensors", text | {SPIECE_TENSOR: pieces}
    )
    _write_tensors(folder / "vae" / "wan_2.1_vae_tiny.safetensors", to_original(vae, vae_rows()))
    # as clip_vision_h.safetensors: with the projection that Wan does not use
    projection = {
        "visual_projection.weight": noise("projection", (16, IMAGE_ENCODER["hidden_size"]))
    }
    _write_tensors(
        folder / "clip_vision" / "clip_vision_tiny.safetensors",
        _with_prefix(image, "vision_model.") | projection,
    )


def _write_rife(folder: Path) -> None:
    tensors = random_rife("rife", build_rife(RIFE))
    # the encoder's names as in the files of 4.7 to 4.9
    for index in range(2):
        for leaf in ("weight", "bias"):
            tensors[f"encode.{index}.{leaf}"] = tensors.pop(f"encode.cnn{index}.{leaf}")
    _write_tensors(folder / "rife_tiny.safetensors", tensors)


def _write_official(
    folder: Path, transformer: Tensors, vae: Tensors, text: Tensors, image: Tensors
) -> None:
    _write_json(folder / "config.json", official_config())
    original = to_original(transformer, transformer_rows())
    names = sorted(original)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    stem, weight_map = "diffusion_pytorch_model", {}
    for i, half in enumerate(halves):
        file = f"{stem}-{i + 1:05d}-of-{len(halves):05d}.safetensors"
        _write_tensors(folder / file, {name: original[name] for name in half})
        weight_map |= dict.fromkeys(half, file)
    total = sum(tensor.nbytes for tensor in original.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / (stem + INDEX_SUFFIX), index)
    _write_pickle(folder / "Wan2.1_VAE.pth", to_original(vae, vae_rows()))
    _write_pickle(folder / "models_t5_umt5-tiny.pth", to_original(text, TEXT_ROWS))
    clip = _with_prefix(to_original(image, IMAGE_ROWS), "visual.")
    width = IMAGE_ENCODER["hidden_size"]
    # the authors' file holds the whole CLIP
    clip |= {
        "visual.head": noise("head", (width, 16)),
        "textual.token_embedding.weight": noise("textual", (8, 16)),
        "log_scale": torch.tensor(2.6593),
    }
    _write_pickle(folder / "models_clip_tiny.pth", clip)
    tokenizer = folder / "google" / "umt5-xxl" / "spiece.model"
    tokenizer.parent.mkdir(parents=True)
    tokenizer.write_bytes(sentencepiece_model())


def _blur_kernels(variant: Variant) -> Tensors:
    """Constants that the authors' Animate files store and diffusers computes."""
    if variant is not Variant.ANIMATE:
        return {}
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = line[None, :] * line[:, None] / 64
    return {
        f"motion_encoder.enc.net_app.convs.{i + 1}.{part}.0.kernel": kernel
        for i in range(MOTION_BLOCKS)
        for part in ("conv2", "skip")
    }


def _with_prefix(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _write_tensors(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    # one entry at most: safetensors writes several in random order
    save_file(whole, path, metadata or {"format": "pt"})


def _write_pickle(path: Path, tensors: Tensors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
