"""Tiny ONNX models that see the puppet of `puppet.py`: real layouts, a few kilobytes.

The detectors answer to the outlines' colours, the pose model to the markings' colours. They are
written in protobuf's wire format by hand, so that nobody needs the `onnx` package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import protobuf as pb
from .puppet import OUTLINES, POINTS, markings

Array = np.ndarray
Shape = Sequence[int | str]

DETECTOR, OLDER_DETECTOR = "yolov10m.onnx", "yolov8m.onnx"
POSE, SPLIT_POSE = "vitpose-l-wholebody.onnx", "vitpose_h_wholebody_model.onnx"
SPLIT_DATA = "vitpose_h_wholebody_data.bin"
_IR_VERSION, _OPSET = 7, 13
_FLOAT, _INT64 = 1, 7  # onnx.proto3, TensorProto.DataType

_SIDE, _ROWS, _COLUMNS = 640, 300, 8400  # of the detectors' real outputs
_SCORES = (0.9, 0.8, 0.7, 0.6)  # of the outlines, so that their order is known
_OUTLINE_REACH = 45 / 255  # distance in colour at which a pixel no longer counts
_BLUE_WEIGHT = 2.0  # blue separates the patches; red and green only tell places on one
# Reach, and the gain at which a marking's map peaks near 0.9 on a figure that fills the crop.
_MARKS = {
    "spot": (34 / 255, 12.0),
    "head": (34 / 255, 14.0),
    "left hand": (50 / 255, 14.0),
    "right hand": (50 / 255, 14.0),
    "left foot": (42 / 255, 14.0),
    "right foot": (42 / 255, 14.0),
}
_SIGMA = 4.0  # of the blur, in half-size pixels: two cells of the heat maps
# Decoding counts from a pixel's edge, drawing from its middle: half a pixel of the frame, which
# is about this much after shrinking by two and a half and by two.
_SHIFT = 0.1


def write_onnx(folder: Path) -> None:
    """Write the tiny detectors and pose models into a folder, under the real files' names.

    yolov10m.onnx 1x3x640x640 -> 1x300x6, yolov8m.onnx Nx3x640x640 -> Nx84x8400,
    vitpose-l-wholebody.onnx Nx3x256x192 -> Nx133x64x48, and the same again as
    vitpose_h_wholebody_model.onnx with its weights in vitpose_h_wholebody_data.bin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DETECTOR).write_bytes(_detector(rows=True))
    (folder / OLDER_DETECTOR).write_bytes(_detector(rows=False))
    (folder / POSE).write_bytes(_pose_model().model())
    split = _pose_model()
    (folder / SPLIT_POSE).write_bytes(split.model(SPLIT_DATA))
    (folder / SPLIT_DATA).write_bytes(split.data)


def tiny_pose_files(folder: Path) -> tuple[Path, Path]:
    """The tiny person detector and pose model.

    Args:
        folder: where `ensure_tiny` put the set.
    """
    files = folder / "comfyui" / "detection"
    return files / DETECTOR, files / POSE


class _Graph:
    """Collects the parts of an ONNX graph. Field numbers: onnx/onnx.proto3."""

    def __init__(self, entry: Shape, result: Shape) -> None:
        self._nodes: list[bytes] = []
        self._tensors: list[tuple[str, Array]] = []
        self._ends = _value(11, "images", entry) + _value(12, "output", result)
        self._count = 0
        self.data = b""
        """Contents of the external data file, after `model` was asked for one."""

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: int | list[int]) -> str:
        """Append a node; gives the name of its output."""
        self._count += 1
        name = output or f"t{self._count}"
        body = b"".join(pb.text(1, one) for one in inputs) + pb.text(2, name)
        body += pb.text(3, f"n{self._count}") + pb.text(4, kind)
        body += b"".join(pb.message(5, _attribute(*pair)) for pair in attributes.items())
        self._nodes.append(pb.message(1, body))
        return name

    def tensor(self, values: Array) -> str:
        """Append weights; gives their name."""
        name = f"w{len(self._tensors)}"
        self._tensors.append((name, values))
        return name

    def model(self, data_file: str = "") -> bytes:
        """The file's contents; with `data_file`, the weights go to `data` instead."""
        body = b"".join(self._nodes) + pb.text(2, "tiny")
        self.data = b""
        for name, values in self._tensors:
            # onnxruntime reads shapes before it opens the data file
            outside = data_file if values.dtype == np.float32 else ""
            body += pb.message(5, _tensor(name, values, outside, len(self.data)))
            self.data += _raw(values) if outside else b""
        opset = pb.text(1, "") + pb.number(2, _OPSET)
        head = pb.number(1, _IR_VERSION) + pb.text(2, "wan_local tiny: no real model")
        return head + pb.message(7, body + self._ends) + pb.message(8, opset)


def _detector(rows: bool) -> bytes:
    """Boxes around the pixels of each outline colour, one slot a colour."""
    slots = len(OUTLINES)
    batch: int | str = 1 if rows else "batch"
    result = (batch, _ROWS, 6) if rows else (batch, 84, _COLUMNS)
    g = _Graph((batch, 3, _SIDE, _SIDE), result)
    colours = np.array(OUTLINES, np.float32) / 255
    table = np.full((slots, 2), (_OUTLINE_REACH, 1.0))
    near = _nearness(g, "images", colours, table, np.ones(3))
    zero, one = g.tensor(np.zeros(1, np.float32)), g.tensor(np.ones(1, np.float32))
    side = g.tensor(np.array([_SIDE], np.float32))
    forward = g.tensor(np.arange(1, _SIDE + 1, dtype=np.float32))
    backward = g.tensor(np.arange(_SIDE, 0, -1, dtype=np.float32))
    low, high = [], []
    for flattened in (2, 3):  # over rows for x, over columns for y
        line = g.add("ReduceMax", near, axes=[flattened], keepdims=0)
        hit = g.add("Cast", g.add("Greater", line, zero), to=_FLOAT)
        last = g.add("ReduceMax", g.add("Mul", hit, forward), axes=[2], keepdims=1)
        first = g.add("ReduceMax", g.add("Mul", hit, backward), axes=[2], keepdims=1)
        low.append(g.add("Sub", side, first))
        high.append(last)
    seen = g.add("Min", g.add("ReduceMax", high[0], axes=[2], keepdims=1), one)
    rating = g.tensor(np.array(_SCORES, np.float32).reshape(1, slots, 1))
    score = g.add("Mul", seen, rating)
    if rows:
        person = g.add("Mul", score, zero)  # class 0
        table = g.add("Concat", *low, *high, score, person, axis=2)
        padding = [0, 0, 0, 0, _ROWS - slots, 0]
    else:
        half = g.tensor(np.array([0.5], np.float32))
        middles = [g.add("Mul", g.add("Add", *pair), half) for pair in zip(low, high, strict=True)]
        sizes = [g.add("Sub", *pair) for pair in zip(high, low, strict=True)]
        table = g.add("Concat", *middles, *sizes, score, axis=2)
        table = g.add("Transpose", table, perm=[0, 2, 1])
        padding = [0, 0, 0, 0, 79, _COLUMNS - slots]
    g.add("Pad", table, g.tensor(np.array(padding, np.int64)), output="output")
    return g.model()


def _pose_model() -> _Graph:
    """Heat maps: how near each pixel is to each marking's colour, blurred."""
    g = _Graph(("batch", 3, 256, 192), ("batch", POINTS, 64, 48))
    std, mean = np.array([0.229, 0.224, 0.225]), np.array([0.485, 0.456, 0.406])
    rgb = g.add(
        "Conv",
        "images",
        g.tensor(np.diag(std).reshape(3, 3, 1, 1).astype(np.float32)),
        g.tensor(mean.astype(np.float32)),
    )
    half = g.add("AveragePool", rgb, kernel_shape=[2, 2], strides=[2, 2])
    marks = [markings()[number] for number in range(POINTS)]
    colours = np.array([colour for _, colour in marks], np.float32) / 255
    table = np.array([_MARKS[name] for name, _ in marks])
    near = _nearness(g, half, colours, table, np.array([1.0, 1.0, _BLUE_WEIGHT]))
    rows, columns = _blur(g, 64, 128), _blur(g, 48, 96)
    maps = g.add("MatMul", g.add("MatMul", rows, near), g.add("Transpose", columns, perm=[1, 0]))
    g.add("Tanh", maps, output="output")
    return g


def _blur(g: _Graph, cells: int, pixels: int) -> str:
    """[cells, pixels]: a Gaussian around each cell's place, computed in the model to keep it small."""
    # the middle of a cell, in half-size pixels, lies where the decoding assumes it
    places = np.arange(cells, dtype=np.float32)[:, None] * (pixels / cells) - 0.5 + _SHIFT
    apart = g.add(
        "Sub",
        g.tensor(np.arange(pixels, dtype=np.float32)[None]),
        g.tensor(places.astype(np.float32)),
    )
    factor = g.tensor(np.array([-0.5 / _SIGMA**2], np.float32))
    bell = g.add("Exp", g.add("Mul", g.add("Mul", apart, apart), factor))
    return g.add("Mul", bell, g.tensor(np.array([1 / (_SIGMA * np.sqrt(2 * np.pi))], np.float32)))


def _nearness(g: _Graph, picture: str, colours: Array, table: Array, weights: Array) -> str:
    """gain * max(0, 1 - (distance / reach)^2) of each pixel to each colour.

    |x - c|^2 = |x|^2 - 2 c x + |c|^2, so that one 1x1 convolution does it for all colours.

    Args:
        g: where to append.
        picture: name of [N, 3, H, W].
        colours: [n, 3] in 0..1.
        table: [n, 2] reach and gain.
        weights: [3] of the channels in the distance.
    """
    both = g.add("Concat", picture, g.add("Mul", picture, picture), axis=1)
    reach, gain = table.T
    scale = (gain / reach**2)[:, None] * weights
    kernel = np.concatenate([2 * scale * colours, -scale], axis=1)
    kernel = kernel.reshape(len(colours), 6, 1, 1).astype(np.float32)
    bias = (gain - (scale * colours**2).sum(axis=1)).astype(np.float32)
    return g.add("Relu", g.add("Conv", both, g.tensor(kernel), g.tensor(bias)))


def _raw(values: Array) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def _tensor(name: str, values: Array, data_file: str, offset: int) -> bytes:
    """TensorProto."""
    kind = _INT64 if values.dtype == np.int64 else _FLOAT
    body = b"".join(pb.number(1, size) for size in values.shape) + pb.number(2, kind)
    body += pb.text(8, name)
    if not data_file:
        return body + pb.message(9, _raw(values))
    entries = {"location": data_file, "offset": str(offset), "length": str(values.nbytes)}
    for key, value in entries.items():
        body += pb.message(13, pb.text(1, key) + pb.text(2, value))
    return body + pb.number(14, 1)  # data_location = EXTERNAL


def _attribute(name: str, value: int | list[int]) -> bytes:
    """AttributeProto of the kind INT or INTS."""
    if isinstance(value, int):
        return pb.text(1, name) + pb.number(3, value) + pb.number(20, 2)
    return pb.text(1, name) + b"".join(pb.number(8, one) for one in value) + pb.number(20, 7)


def _value(field: int, name: str, shape: Shape) -> bytes:
    """ValueInfoProto of a float tensor as a field of the graph."""
    sizes = b"".join(
        pb.message(1, pb.text(2, size) if isinstance(size, str) else pb.number(1, size))
        for size in shape
    )
    kind = pb.message(1, pb.number(1, _FLOAT) + pb.message(2, sizes))
    return pb.message(field, pb.text(1, name) + pb.message(2, kind))
