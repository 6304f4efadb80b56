"""What an ONNX file says about itself, read without onnxruntime and without its weights."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

# Protobuf field numbers. Source: onnx/onnx.proto3, ModelProto, GraphProto, TensorProto,
# StringStringEntryProto
_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _KEY, _VALUE = 7, 5, 13, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def data_files(path: Path) -> tuple[str, ...]:
    """Names of the files beside an ONNX model in which its weights are kept.

    Raises:
        ValueError: the file is no ONNX model.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        graphs = [span for number, span in _fields(view, 0, len(view)) if number == _GRAPH]
        if not graphs:
            raise ValueError("no graph")
        names: dict[str, None] = {}
        for number, span in (field for graph in graphs for field in _fields(view, *graph)):
            if number != _INITIALIZER:
                continue
            entries = (part for field, part in _fields(view, *span) if field == _EXTERNAL_DATA)
            for entry in entries:
                pair = {field: bytes(view[slice(*part)]) for field, part in _fields(view, *entry)}
                if pair.get(_KEY) == b"location":
                    names[_inside(pair.get(_VALUE, b"").decode("utf-8"))] = None
    return tuple(names)


def _inside(name: str) -> str:
    """The name, unless it leads out of the model's folder."""
    path = PureWindowsPath(name)  # which takes both kinds of slashes
    if path.drive or path.root or ".." in path.parts:
        raise ValueError(f"its weights should be in {name!r}, outside of its folder")
    return name


def _fields(view: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and place of each field of a protobuf message, without reading the contents."""
    while start < end:
        tag, start = _varint(view, start)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, stop = _varint(view, start)
        elif wire == _BYTES:
            length, start = _varint(view, start)
            stop = start + length
        elif wire in (_FIXED32, _FIXED64):
            stop = start + (4 if wire == _FIXED32 else 8)
        else:
            raise ValueError(f"unknown wire type {wire}")
        if stop > end or number == 0:
            raise ValueError("it ends too early" if number else "unknown contents")
        yield number, (start, stop)
        start = stop


def _varint(view: mmap.mmap, start: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("unknown contents")
