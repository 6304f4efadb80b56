"""Read what a weight file holds (names, types, shapes) without reading the weights.

Everything the loaders must know to refuse a wrong or damaged file stands in the first few
kilobytes, so it is checked before gigabytes are moved.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import MissingFileError, ModelError
from .gguf_file import is_gguf, read_gguf

if TYPE_CHECKING:
    from torch import Tensor

INDEX_SUFFIX = ".safetensors.index.json"
PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".pkl")
# safetensors format: 8 bytes little-endian header size, at most 100 MB of JSON
# (huggingface/safetensors README, "Format")
_SIZE_BYTES = 8
_MAX_HEADER = 100_000_000
_LONGEST_NAME = 500  # characters; real names have less than 100
_MOST_AXES = 8
# bytes of one number; of types that are not here the library checks it when they are read
_TYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
_DOWNLOAD_AGAIN = "Delete the file and download it again."


class TensorInfo(NamedTuple):
    """Type and shape of one stored tensor."""

    dtype: str
    """As safetensors spells it: "F32", "BF16", "F8_E4M3", ...; GGUF's own types as llama.cpp
    does: "Q4_K", ..."""
    shape: tuple[int, ...]

    def squeeze(self, axes: tuple[int, ...]) -> TensorInfo:
        """What `Tensor.squeeze` would leave."""
        kept = (n for axis, n in enumerate(self.shape) if axis not in axes or n != 1)
        return TensorInfo(self.dtype, tuple(kept))

    def chunk(self, chunks: int) -> tuple[TensorInfo, ...]:
        """What `Tensor.chunk` along axis 0 would give."""
        part = TensorInfo(self.dtype, (self.shape[0] // chunks, *self.shape[1:]))
        return (part,) * chunks


@dataclass(frozen=True)
class Header:
    """What one weight file, or one set of shards, holds."""

    path: Path
    """The file, index or folder that was asked for."""
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Files that hold the tensors; several for a sharded model."""

    @property
    def name(self) -> str:
        """What to call it in front of the user: file name, or the model's folder name."""
        parts = ("transformer", "vae", "text_encoder", "image_encoder")
        if self.path.name.endswith(INDEX_SUFFIX) or self.path.name in parts:
            return f"{self.path.parent.name}/{self.path.name}"
        return self.path.name

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor `name`.

        Raises:
            ModelError: there is no such tensor.
        """
        if name not in self.tensors:
            raise ModelError(
                what=f"'{self.name}' has no tensor '{name}'.",
                why="Without it the size of the model cannot be read, so the file is incomplete "
                "or of another model.",
                fix="Download the file again, or choose another one.",
            )
        return self.tensors[name].shape

    def renamed(self, tensors: dict[str, TensorInfo]) -> Header:
        """The same file with other tensor names (after a prefix was taken off)."""
        return Header(self.path, tensors, self.metadata, self.files)


def read_header(path: Path) -> Header:
    """Names, types and shapes of a weight file.

    Args:
        path: a `.safetensors` file, a `*.safetensors.index.json`, a GGUF file, a PyTorch file
            (`.pth`), or a folder that holds one model.
    Raises:
        MissingFileError: the file, or a shard of it, is not there.
        ModelError: the file is no weight file, is cut short, or the folder is ambiguous.
    """
    path = Path(path)
    if path.is_dir():
        return _with_path(read_header(find_weights(path)), path)
    if not path.exists():
        raise MissingFileError(
            what=f"'{path}' is not there.",
            why="The model cannot be loaded without it.",
            fix="Check the path, or download the file.",
        )
    if path.name.endswith(INDEX_SUFFIX):
        return _read_sharded(path)
    if is_gguf(path):
        tensors, metadata = read_gguf(path)
        infos = {name: TensorInfo(tensor.kind, tensor.shape) for name, tensor in tensors.items()}
        return Header(path, infos, metadata, (path,))
    if path.suffix == ".gguf":
        raise ModelError(
            what=f"'{path.name}' is not a GGUF file.",
            why="Its first bytes are not 'GGUF'; a saved web page or login form looks like this "
            "too.",
            fix=_DOWNLOAD_AGAIN,
        )
    if path.suffix in PICKLE_SUFFIXES:
        return _read_pickle(path)
    return _read_safetensors(path)


def find_weights(folder: Path) -> Path:
    """The one weight file or shard index in a model folder.

    Raises:
        MissingFileError: there is none.
        ModelError: there are several, and none has the standard name.
    """
    indexes = sorted(folder.glob("*" + INDEX_SUFFIX))
    files = sorted(folder.glob("*.safetensors"))
    standard = [
        path
        for stem in ("diffusion_pytorch_model", "model")
        for path in (folder / (stem + INDEX_SUFFIX), folder / (stem + ".safetensors"))
        if path.is_file()
    ]
    candidates = standard[:1] or (indexes if len(indexes) == 1 else files)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise MissingFileError(
            what=f"No .safetensors file is in '{folder}'.",
            why="The folder of a model part must hold its weights.",
            fix=f"Put the weights into '{folder}', or choose another folder.",
        )
    if any("-of-" in path.name for path in files):
        raise MissingFileError(
            what=f"'{folder}' holds {len(files)} shards but no *{INDEX_SUFFIX}.",
            why="The index says which shard holds which tensor and how many there must be.",
            fix="Download the index file from the same place as the shards.",
        )
    names = ", ".join(path.name for path in candidates)
    raise ModelError(
        what=f"'{folder}' holds {len(candidates)} weight files: {names}.",
        why="Only one of them can be meant.",
        fix="Choose the file itself instead of the folder.",
    )


def _with_path(header: Header, path: Path) -> Header:
    return Header(path, header.tensors, header.metadata, header.files)


def _read_safetensors(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(_SIZE_BYTES)
        if len(prefix) < _SIZE_BYTES:
            raise _truncated(path, expected=f"at least {_SIZE_BYTES}", found=size)
        (length,) = struct.unpack("<Q", prefix)
        if length > _MAX_HEADER:
            raise _not_safetensors(path)
        raw = file.read(length)
    if raw[:1] not in (b"{", b""):
        raise _not_safetensors(path)
    if len(raw) < length:
        raise _truncated(path, expected=f"more than {_SIZE_BYTES + length}", found=size)
    try:
        entries = json.loads(raw)
        metadata = entries.pop("__metadata__", None) or {}
        tensors = {name: _tensor_info(entry) for name, entry in entries.items()}
        if any(len(name) > _LONGEST_NAME for name in tensors):
            raise ValueError("a name is far too long")
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        metadata = {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _not_safetensors(path) from None
    expected = _SIZE_BYTES + length + end
    if size < expected:
        raise _truncated(path, expected=f"{expected}", found=size)
    return Header(path, tensors, metadata, (path,))


def _tensor_info(entry: dict[str, Any]) -> TensorInfo:
    """Type and shape of a tensor whose bytes are as many as these need."""
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
        raise ValueError("sizes and places are whole numbers")
    size = _TYPE_BYTES.get(dtype)
    if len(shape) > _MOST_AXES:
        raise ValueError("a tensor has too many axes")
    if begin > end or (size is not None and math.prod(shape) * size != end - begin):
        raise ValueError("a tensor has more or fewer bytes than its shape needs")
    return TensorInfo(str(dtype), shape)


def _read_sharded(index: Path) -> Header:
    try:
        weight_map: dict[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
        shards = [index.parent / name for name in sorted(set(weight_map.values()))]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ModelError(
            what=f"'{index}' is not a shard index.",
            why="It must be JSON with a 'weight_map' from tensor names to file names.",
            fix=_DOWNLOAD_AGAIN,
        ) from None
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise MissingFileError(
            what=f"{len(missing)} of {len(shards)} shards of '{index.name}' are not in "
            f"'{index.parent}': {', '.join(missing)}.",
            why="Every shard holds a part of the weights.",
            fix="Download the missing files into that folder.",
        )
    tensors: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        header = _read_safetensors(shard)
        tensors.update(header.tensors)
        metadata.update(header.metadata)
    lost = sorted(set(weight_map) - set(tensors))
    if lost:
        raise ModelError(
            what=f"{len(lost)} tensors that '{index.name}' lists are in none of its shards, "
            f"first '{lost[0]}'.",
            why="The shards do not belong to this index.",
            fix="Download the index and all shards from the same place.",
        )
    return Header(index, tensors, metadata, tuple(shards))


def _read_pickle(path: Path) -> Header:
    tensors = {
        name: TensorInfo(
            _SAFETENSORS_NAME.get(str(tensor.dtype), str(tensor.dtype)), tuple(tensor.shape)
        )
        for name, tensor in read_pickle(path).items()
    }
    return Header(path, tensors, {}, (path,))


# torch's names to those of the safetensors format
_SAFETENSORS_NAME = {
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float64": "F64",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.int8": "I8",
    "torch.uint8": "U8",
}


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Tensors of a PyTorch file, mapped into memory where the file allows it.

    Raises:
        ModelError: the file is damaged, or holds anything but tensors.
    """
    import torch

    _expect_unpacked(path)
    try:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            # files written before torch 1.6 are no zip archives and cannot be mapped
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            what=f"'{path.name}' ({path.stat().st_size} bytes) cannot be read as PyTorch weights: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
            why="It is cut short, or holds something else than plain tensors, which could run "
            "foreign code and is therefore refused.",
            fix="Delete the file and download it again, or take the .safetensors version.",
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(
        isinstance(t, torch.Tensor) for t in loaded.values()
    ):
        raise ModelError(
            what=f"'{path.name}' does not hold a table of tensors.",
            why="The weights of a model are expected.",
            fix="Choose another file, for example the .safetensors version.",
        )
    _expect_whole(path, loaded)
    return loaded


def _expect_unpacked(path: Path) -> None:
    """Refuse zip archives that are larger inside than outside; torch never packs its files."""
    from zipfile import ZIP_STORED, BadZipFile, ZipFile

    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return  # an older format, or damaged: torch says
    try:
        with ZipFile(path) as archive:
            is_packed = any(entry.compress_type != ZIP_STORED for entry in archive.infolist())
    except (BadZipFile, ValueError, LookupError, EOFError, struct.error, NotImplementedError):
        return  # damaged: torch says how
    if is_packed:
        raise ModelError(
            what=f"'{path.name}' is a packed zip archive.",
            why="PyTorch does not pack its files, and a small packed file can fill the memory.",
            fix="Unpack it if it holds weight files, or download the file again.",
        )


def _expect_whole(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse tensors that are larger than their bytes in the file, for example by repetition."""
    import torch

    for name, tensor in tensors.items():
        is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
        if not is_plain or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ModelError(
                what=f"'{path.name}' says that '{name}' is {list(tensor.shape)}, which its bytes "
                "do not fill.",
                why="Weights are stored number by number; the file is damaged or was made to fill "
                "the memory.",
                fix=_DOWNLOAD_AGAIN,
            )


def _truncated(path: Path, expected: str, found: int) -> ModelError:
    return ModelError(
        what=f"'{path.name}' is cut short: expected {expected} bytes, found {found}.",
        why="Its header lists tensors that lie beyond the end of the file; the download or copy "
        "was probably interrupted.",
        fix=_DOWNLOAD_AGAIN,
    )


def _not_safetensors(path: Path) -> ModelError:
    return ModelError(
        what=f"'{path.name}' is not a safetensors file.",
        why="Its first bytes are no safetensors header; a saved web page or login form looks "
        "like this too.",
        fix=_DOWNLOAD_AGAIN,
    )
