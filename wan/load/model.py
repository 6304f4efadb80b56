"""Load a whole Wan model: check every file first, read weights only when they are used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import nn

from ..errors import MissingFileError, ModelError
from ..payloads import Tokenizer, WanModel
from ..quantised import holds_fp8
from ..residency import Part, Placement
from .config import SMALLEST_WAN
from .files import ModelFiles, find_files
from .footprint import weight_footprint
from .header import INDEX_SUFFIX, read_header
from .image import check_image_encoder, load_image_encoder
from .inspect import Kind
from .text import check_text_encoder, load_text_encoder
from .tokenizer import open_tokenizer
from .transformer import check_transformer, inspect_transformer, load_transformer
from .vae import check_vae, load_vae

__all__ = ["ModelFiles", "find_files", "load_model"]

log = logging.getLogger("wan_local")

# By kind: the name in logs and errors, what reads the weights, and where the blocks are that can
# be streamed. (transformers looks into the image encoder's layers from outside.)
_LOADERS: dict[Kind, tuple[str, Callable[..., nn.Module], str]] = {
    Kind.TRANSFORMER: ("transformer", load_transformer, "blocks"),
    Kind.VAE: ("vae", load_vae, ""),
    Kind.TEXT_ENCODER: ("text encoder", load_text_encoder, "encoder.block"),
    Kind.IMAGE_ENCODER: ("image encoder", load_image_encoder, ""),
}
# Parts in use, by what they were made from: two models of the same files share their memory.
_parts: WeakValueDictionary[tuple[Any, ...], Part[Any]] = WeakValueDictionary()
_parts_lock = Lock()


def load_model(
    files: ModelFiles, placement: Placement, dtype: torch.dtype | None = None
) -> WanModel:
    """A model ready to use. Weights are read when a stage first asks for a part.

    Args:
        files: where the parts are, see `find_files`.
        placement: who owns the modules and where they compute.
        dtype: type that transformer and encoders compute in, and of their weights unless those
            are quantised; None: what the placement says. The VAE's weights are float32 always; on
            a GPU it decodes in this type.
    Raises:
        MissingFileError: files are not there; names all of them.
        ModelError: a file is damaged, of the wrong kind, or does not fit the others.
    """
    vae, text_encoder, image_encoder = _expect_complete(files)
    variant, config = check_transformer(files.transformer)
    _expect_fitting(files, config)
    dtype = dtype or placement.default_dtype()
    name = _display_name(files.transformer)
    storage = inspect_transformer(files.transformer)[0].storage
    computed = str(dtype).removeprefix("torch.")
    stored = f"{storage}, computed in {computed}" if storage else computed
    log.info("%s: %s, %s", name, variant.value, stored)
    return WanModel(
        name=name,
        variant=variant,
        config=config,
        transformer=_part(Kind.TRANSFORMER, files.transformer, dtype, placement),
        vae=_part(Kind.VAE, vae, torch.float32, placement),
        text_encoder=_part(Kind.TEXT_ENCODER, text_encoder, dtype, placement),
        image_encoder=_part(Kind.IMAGE_ENCODER, image_encoder, dtype, placement),
        tokenizer=_tokenizer(files),
        identity=_identity(files),
        decode_dtype=torch.float32 if placement.device.type == "cpu" else dtype,
        is_miniature=config["num_attention_heads"] * config["attention_head_dim"] < SMALLEST_WAN,
    )


def open_transformer(
    path: Path, placement: Placement, dtype: torch.dtype | None = None
) -> WanModel:
    """A model of which nothing but the transformer is there, to sample with.

    Args:
        path: a file, a shard index or a folder.
        placement, dtype: as `load_model`.
    Raises:
        MissingFileError, ModelError: as `load_model`.
    """
    variant, config = check_transformer(path)
    dtype = dtype or placement.default_dtype()

    def refuse() -> nn.Module:
        raise RuntimeError("this model was opened for its transformer alone")

    missing: Part[Any] = Part("missing part", refuse, placement)
    return WanModel(
        name=_display_name(path),
        variant=variant,
        config=config,
        transformer=_part(Kind.TRANSFORMER, path, dtype, placement),
        vae=missing,
        text_encoder=missing,
        image_encoder=missing,
        tokenizer=_NoTokenizer(),
        identity=_identity(ModelFiles(path)),
    )


class _NoTokenizer:
    """Of a model without a text encoder."""

    def encode(self, text: str, max_length: int) -> list[int]:
        raise RuntimeError("this model was opened for its transformer alone")


def _identity(files: ModelFiles) -> tuple[Any, ...]:
    paths = (files.transformer, files.vae, files.text_encoder, files.image_encoder)
    # Of a folder its own time tells whether files in it were replaced by others.
    stats = [(path, path.stat()) for path in paths if path is not None]
    return tuple((str(p.resolve()), s.st_size, s.st_mtime_ns) for p, s in stats)


def _expect_complete(files: ModelFiles) -> tuple[Path, Path, Path]:
    parts = {
        "transformer": files.transformer,
        "vae": files.vae,
        "text encoder": files.text_encoder,
        "image encoder": files.image_encoder,
    }
    missing = [
        f"  {part}: {f'{path} is not there' if path else 'no file was given'}"
        for part, path in parts.items()
        if path is None or not path.exists()
    ]
    if missing:
        raise MissingFileError(
            what="Parts of the model are missing:\n" + "\n".join(missing),
            why="A Wan model needs all of its parts.",
            fix="Name a file for each of them.",
        )
    assert files.vae and files.text_encoder and files.image_encoder  # checked above
    return files.vae, files.text_encoder, files.image_encoder


def _expect_fitting(files: ModelFiles, config: dict[str, Any]) -> None:
    """Check the other parts, and that all sizes meet."""
    assert files.vae and files.text_encoder and files.image_encoder
    image = check_image_encoder(files.image_encoder)
    positions = (image["image_size"] // image["patch_size"]) ** 2 + 1
    meetings = [
        (files.vae, "latent channels", check_vae(files.vae)["z_dim"], config["out_channels"]),
        (
            files.text_encoder,
            "text features",
            check_text_encoder(files.text_encoder)["d_model"],
            config["text_dim"],
        ),
        (files.image_encoder, "image features", image["hidden_size"], config["image_dim"]),
    ]
    if config["pos_embed_seq_len"] is not None:
        tokens = config["pos_embed_seq_len"]
        meetings.append((files.image_encoder, "tokens for two images", 2 * positions, tokens))
    for path, what, gives, takes in meetings:
        if gives != takes:
            raise ModelError(
                what=f"'{read_header(path).name}' gives {gives} {what}, but "
                f"'{read_header(files.transformer).name}' takes {takes}.",
                why="The files belong to different models.",
                fix="Choose the file that was published with the transformer.",
            )


def _tokenizer(files: ModelFiles) -> Tokenizer:
    place = files.tokenizer or files.text_encoder
    assert place is not None  # checked by _expect_complete
    return open_tokenizer(place)


def _part(kind: Kind, path: Path, dtype: torch.dtype, placement: Placement) -> Part[Any]:
    """The part that is already in use for this very file, or a new one."""
    name, load, stack = _LOADERS[kind]
    unpack_fp8 = not holds_fp8(placement.device, dtype)

    def read() -> nn.Module:
        if kind is Kind.VAE:  # convolutions, which are never kept in fp8
            return load(path, dtype)
        return load(path, dtype, unpack_fp8=unpack_fp8)

    stamps = tuple(
        (str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size)
        for file in read_header(path).files
    )
    key = (name, stamps, dtype, id(placement))  # the part keeps its placement, so ids stay unique
    with _parts_lock:
        part = _parts.get(key)
        if part is None:
            size = weight_footprint(path, kind, dtype, unpack_fp8)
            part = Part(name, read, placement, size, stack)
            _parts[key] = part
    return part


def _display_name(transformer: Path) -> str:
    is_inner = transformer.name.endswith(INDEX_SUFFIX) or transformer.name == "transformer"
    is_inner = is_inner or transformer.name == "diffusion_pytorch_model.safetensors"
    folder = transformer.parent
    if is_inner and folder.name == "transformer":
        folder = folder.parent
    return folder.name if is_inner else transformer.name
