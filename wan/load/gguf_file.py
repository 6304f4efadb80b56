"""Read GGUF files: names, types, shapes and places of the tensors, and the tensors mapped.

The `gguf` package has a reader too, but it believes every count in the file: a damaged one makes
it loop for hours. This one checks each against the size of the file. Format: ggml-org/ggml
docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ModelError, UnavailableError

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"GGUF"
PLAIN = {"F32": 4, "F16": 2, "BF16": 2}
"""Types that are no quantisation, with their bytes."""
_VERSIONS = (2, 3)
_MOST = 1_000_000  # entries of one list; the vocabulary of UMT5, the longest there is, has 256 384
_MOST_AXES = 8
_STRING, _ARRAY = 8, 9
_UINT32, _INT32 = 4, 5
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
# number of a type in the file: name, numbers in a block, bytes of it (ggml.h, ggml-common.h)
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136),
    30: ("BF16", 1, 2),
}
GGML_SIZES = {name: (count, size) for name, count, size in _TYPES.values() if name not in PLAIN}
"""Of the quantised types by name: numbers in a block, bytes of it."""
GGML_TYPES = frozenset(GGML_SIZES)
"""Names of the quantised types."""


class GgufTensor(NamedTuple):
    """One tensor of a GGUF file."""

    kind: str
    """Type as llama.cpp spells it: "F16", "Q4_K", ..."""
    shape: tuple[int, ...]
    """As torch would have it, outermost axis first."""
    start: int
    """First byte in the file."""
    size: int
    """Bytes."""


def is_gguf(path: Path) -> bool:
    """Whether a file says so in its first bytes, whatever its name."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def expect_gguf_package(name: str) -> None:
    """Refuse to go on without the package that reads the blocks of a GGUF file.

    Args:
        name: of the file, for the error.
    Raises:
        UnavailableError: `gguf` is not installed.
    """
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            what=f"'{name}' is a GGUF file, and the package gguf is not installed.",
            why="diffusers reads the quantised blocks of such files with it.",
            fix="Install it (pip install gguf), or take the fp8 or bf16 safetensors file.",
        ) from error


def read_gguf(path: Path) -> tuple[dict[str, GgufTensor], dict[str, str]]:
    """What a GGUF file holds; no weights are read.

    Returns:
        All tensors by name, and the texts of its metadata.
    Raises:
        ModelError: the file is damaged, cut short, or of a kind that cannot be read here.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            reader = _Reader(path, data)
            tensors = reader.tensors()
            texts = {n: v for n, v in reader.metadata.items() if isinstance(v, str)}
            return tensors, texts
    except (ValueError, struct.error) as error:
        raise ModelError(
            what=f"'{path.name}' ({size} bytes) cannot be read as GGUF: {error}.",
            why="Its header must list names, types and places of all tensors.",
            fix="Delete the file and download it again.",
        ) from error


def map_gguf(path: Path) -> dict[str, Tensor]:
    """The tensors of a GGUF file, mapped into memory.

    Returns:
        By name: those of a plain type in their shape; of a quantised one the bytes, uint8
        [rows, bytes of a row], where the rows are all axes but the last.
    Raises:
        ModelError: as `read_gguf`.
    """
    import torch

    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    entries, _ = read_gguf(path)
    whole = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    result: dict[str, Tensor] = {}
    for name, entry in entries.items():
        raw = whole[entry.start : entry.start + entry.size]
        if entry.kind not in types:
            result[name] = raw.view(prod(entry.shape[:-1]), -1)
            continue
        if entry.start % PLAIN[entry.kind]:
            raw = raw.clone()  # at an odd place it cannot be looked at as another type
        result[name] = raw.view(types[entry.kind]).view(entry.shape)
    return result


class _Reader:
    """Walks through a header; every count is checked before it is believed."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._at = path, data, len(MAGIC)
        self.metadata: dict[str, Any] = {}

    def tensors(self) -> dict[str, GgufTensor]:
        version = self._number("I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version} instead of 2 or 3")
        count, pairs = self._count("Q", 24), self._count("Q", 13)
        self.metadata = dict(self._pair() for _ in range(pairs))
        listed = [self._entry() for _ in range(count)]
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 16:
            raise ValueError(f"alignment {alignment}")
        start = end = -(-self._at // alignment) * alignment
        result: dict[str, GgufTensor] = {}
        for name, axes, kind, offset in listed:
            if start + offset != end:  # they follow one another, as llama.cpp demands too
                raise ValueError(f"'{name}' is at byte {start + offset} instead of {end}")
            result[name] = self._place(name, axes, kind, end)
            end += -(-result[name].size // alignment) * alignment
        if len(result) < count:
            raise ValueError("two tensors have the same name")
        end = max((t.start + t.size for t in result.values()), default=0)  # without padding
        if end > len(self._data):
            raise ModelError(
                what=f"'{self._path.name}' is cut short: expected {end} bytes, found "
                f"{len(self._data)}.",
                why="Its header lists tensors that lie beyond the end of the file; the download "
                "or copy was probably interrupted.",
                fix="Delete the file and download it again.",
            )
        return result

    def _place(self, name: str, axes: tuple[int, ...], kind: int, start: int) -> GgufTensor:
        if kind not in _TYPES:
            raise ModelError(
                what=f"'{self._path.name}' holds a tensor of GGML type {kind} ('{name}').",
                why=f"Types that can be read: {', '.join(t for t, *_ in _TYPES.values())}.",
                fix="Choose the Q8_0, Q6_K, Q5_K or Q4_K file of the same model.",
            )
        label, block, size = _TYPES[kind]
        if axes[0] % block:
            raise ValueError(f"rows of {axes[0]} numbers in blocks of {block} ('{name}')")
        shape = tuple(self.metadata.get(_ORIGINAL_SHAPE + name) or reversed(axes))
        if prod(shape) != prod(axes) or min(shape) < 1:
            raise ValueError(f"'{name}' of {list(axes)} numbers was {list(shape)} before")
        return GgufTensor(label, shape, start, prod(axes) // block * size)

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name, count = self._string(), self._number("I")
        if not 0 < count <= _MOST_AXES:
            raise ValueError(f"'{name}' has {count} axes")
        axes = tuple(self._number("Q") for _ in range(count))
        if min(axes) < 1:
            raise ValueError(f"'{name}' has a size of 0")
        return name, axes, self._number("I"), self._number("Q")

    def _pair(self) -> tuple[str, Any]:
        return self._string(), self._value(self._number("I"))

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise ValueError(f"a value of type {kind}")
        kind = self._number("I")
        if kind == _STRING:
            for _ in range(self._count("Q", 8)):
                self._skip(self._number("Q"))
            return None
        if kind not in _SCALARS:
            raise ValueError(f"a list of values of type {kind}")
        width = struct.calcsize(_SCALARS[kind])
        count = self._count("Q", width)
        if kind in (_UINT32, _INT32) and 0 < count <= _MOST_AXES:
            return [self._number(_SCALARS[kind]) for _ in range(count)]
        self._skip(count * width)
        return None

    def _count(self, code: str, least: int) -> int:
        """A count of things that take at least so many bytes each."""
        count = self._number(code)
        if count > _MOST or count * least > len(self._data) - self._at:
            raise ValueError(f"a count of {count} at byte {self._at}")
        return count

    def _string(self) -> str:
        length = self._number("Q")
        begin = self._at
        self._skip(length)
        return self._data[begin : begin + length].decode("utf-8")

    def _skip(self, length: int) -> None:
        if length > len(self._data) - self._at:
            raise ValueError(f"{length} bytes are expected at byte {self._at}")
        self._at += length

    def _number(self, code: str) -> Any:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return value
