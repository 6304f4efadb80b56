"""ONNX models: recognised by their shapes, opened on the best device there is, run in batches."""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import MissingFileError, ModelError, UnavailableError
from ...progress import Reporter, Silent
from .onnx_file import data_files

Array = np.ndarray
log = logging.getLogger("wan_local")

CPU = "CPUExecutionProvider"
# Best first. TensorRT is left out: it compiles for minutes on every new size.
_PREFERRED = (
    "CUDAExecutionProvider",
    "ROCMExecutionProvider",
    "MIGraphXExecutionProvider",
    "DmlExecutionProvider",
)
_POLL_SECONDS = 0.05
_FOLDER_MODEL = "end2end.onnx"  # Wan2.2 preprocess/pose2d.py, SimpleOnnxInference


class ModelKind(str, Enum):
    """What an ONNX model is for."""

    DETECTOR = "a person detector"
    POSE = "a whole-body pose model"


@dataclass(frozen=True)
class _Layout:
    kind: ModelKind
    image: tuple[int, int]
    output: tuple[int | None, ...]

    def text(self) -> str:
        return f"{_shape((None, 3, *self.image))} -> {_shape(self.output)}"


# None = any number. Source: Wan2.2 preprocess/pose2d.py, Yolo.postprocess and ViTPose.
_LAYOUTS = (
    _Layout(ModelKind.DETECTOR, (640, 640), (None, None, 6)),
    _Layout(ModelKind.DETECTOR, (640, 640), (None, 84, None)),
    _Layout(ModelKind.POSE, (256, 192), (None, 133, 64, 48)),
)


class OnnxRuntime:
    """Where the ONNX models of a run are computed. Share one, so that a fallback is said once.

    Args:
        device: "cpu", "cuda" or "cuda:1"; "auto", and torch's name of any other device, stands
            for the best one that onnxruntime has here.
    Raises:
        UnavailableError: onnxruntime is not installed.
    """

    def __init__(self, device: str = "auto") -> None:
        self._library = _import_onnxruntime()
        self._warned = False
        available = self._library.get_available_providers()
        kind, _, number = str(device).partition(":")
        if kind == "cuda":
            wanted = _PREFERRED[:1]
        else:
            wanted = () if kind == "cpu" else tuple(p for p in _PREFERRED if p in available)
        self.asked = (*wanted[:1], CPU)
        """Names of the providers that sessions are asked for, best first."""
        self._device_id = int(number) if number.isdigit() else 0
        if wanted and wanted[0] not in available:
            self.asked = (CPU,)
            self.warn(
                f"onnxruntime has no {wanted[0]} here (it has {', '.join(available)}); person and "
                "pose are measured on the CPU. For an NVIDIA GPU install onnxruntime-gpu instead "
                "of onnxruntime."
            )

    def warn(self, text: str) -> None:
        """Log a warning, unless this run had one already."""
        if not self._warned:
            log.warning(text)
        self._warned = True

    def open(self, path: Path, providers: tuple[str, ...]) -> Any:
        """An `InferenceSession` on the given providers."""
        options = self._library.SessionOptions()
        options.log_severity_level = 3  # errors: what a provider could not do is reported by us
        chosen = [
            (name, {"device_id": self._device_id}) if name != CPU and self._device_id else name
            for name in providers
        ]
        return self._library.InferenceSession(str(path), options, providers=chosen)

    def run_options(self) -> Any:
        """A handle by which a running session can be told to stop."""
        return self._library.RunOptions()


class OnnxModel:
    """A person detector or pose model in an onnxruntime session.

    Args:
        path: the .onnx file, or a folder that holds `end2end.onnx`.
        kind: what it must be.
        runtime: where to run; "auto" by default.
    Raises:
        MissingFileError: no such file, or its external data file is not beside it.
        ModelError: not an ONNX model, or one of another kind.
        UnavailableError: onnxruntime is not installed.
    """

    def __init__(
        self, path: str | Path, kind: ModelKind, runtime: OnnxRuntime | None = None
    ) -> None:
        self.path = _find(Path(path), kind)
        self.kind = kind
        self._runtime = runtime or OnnxRuntime()
        self._session = self._open()
        self._check_kind()
        entry = self._session.get_inputs()[0]
        self._dtype = np.float16 if "float16" in entry.type else np.float32
        first = entry.shape[0]
        self._fixed_batch = first if isinstance(first, int) and first > 0 else None

    @property
    def name(self) -> str:
        """File name as the user knows it."""
        return self.path.name

    @property
    def providers(self) -> tuple[str, ...]:
        """What the session really runs on, read back from onnxruntime, best first."""
        return tuple(self._session.get_providers())

    @property
    def summary(self) -> str:
        """One line for the user: which file runs where."""
        where = self.providers[0].removesuffix("ExecutionProvider")
        asked = self._runtime.asked[0].removesuffix("ExecutionProvider")
        return f"{self.name} on {where}" + ("" if where == asked else f" ({asked} was asked for)")

    def run(self, batch: Array, reporter: Reporter | None = None) -> Array:
        """Compute the first output for a batch.

        A model whose file fixes the batch size gets its size. What fails on another device is
        tried once more on the CPU, with one line in the log. The computation itself can be
        cancelled, not only the pauses between two.

        Args:
            batch: [N, 3, H, W] float32.
            reporter: asked several times a second whether to stop.
        Returns:
            [N, ...] float32.
        Raises:
            ModelError: the model fails on the CPU as well.
        """
        outputs: list[Array] = []
        done = 0
        while done < len(batch):
            size = self._fixed_batch or len(batch)
            outputs.append(self._run_part(batch[done : done + size], reporter or Silent()))
            done += len(outputs[-1])
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _run_part(self, batch: Array, reporter: Reporter) -> Array:
        """As many results as could be computed in one go: all, or one."""
        fed = batch.astype(self._dtype, copy=False)
        missing = (self._fixed_batch or 0) - len(batch)
        if missing > 0:
            fed = np.concatenate([fed, np.zeros((missing, *fed.shape[1:]), self._dtype)])
        outcome = self._attempt(fed, reporter)
        if isinstance(outcome, Exception) and len(batch) > 1 and not self._fixed_batch:
            # some files claim any batch size and hold shapes for one
            single = self._attempt(fed[:1], reporter)
            if not isinstance(single, Exception):
                log.info("%s computes one frame at a time", self.name)
                self._fixed_batch = 1
                outcome = single
        if isinstance(outcome, Exception) and self.providers[0] != CPU:
            self._runtime.warn(
                f"{self.name} failed on {self.providers[0]} ({_first_line(outcome)}); it is "
                "computed on the CPU from here on."
            )
            self._session = self._runtime.open(self.path, (CPU,))
            outcome = self._attempt(fed, reporter)
        if isinstance(outcome, Exception):
            raise ModelError(
                what=f"{self.name} fails on the CPU ({_first_line(outcome)}).",
                why="The file is damaged, or needs a newer onnxruntime.",
                fix="Download it again, or update onnxruntime.",
            ) from outcome
        return outcome[: len(batch)].astype(np.float32, copy=False)

    def _attempt(self, batch: Array, reporter: Reporter) -> Array | Exception:
        """Run in a thread, so that the caller's own thread can ask about cancelling meanwhile."""
        session, options = self._session, self._runtime.run_options()
        feed = {session.get_inputs()[0].name: batch}
        wanted = [session.get_outputs()[0].name]
        outcomes: list[Array | Exception] = []

        def compute() -> None:
            try:
                outcomes.append(session.run(wanted, feed, options)[0])
            except Exception as error:
                outcomes.append(error)

        thread = threading.Thread(target=compute, name=f"onnx {self.name}", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                reporter.check_cancelled()
                thread.join(_POLL_SECONDS)
        except BaseException:
            options.terminate = True
            thread.join()
            raise
        return outcomes[0]

    def _open(self) -> Any:
        asked = self._runtime.asked
        try:
            session = self._runtime.open(self.path, asked)
        except Exception as error:  # onnxruntime has no base class of its own
            session = self._reopen(error)
        got = tuple(session.get_providers())
        if got[0] != asked[0]:
            self._runtime.warn(
                f"{asked[0]} was asked for, but {self.name} runs on {got[0]}. onnxruntime's "
                "build, the driver and the GPU's libraries have to fit each other."
            )
        log.info("%s runs on %s", self.name, got[0])
        return session

    def _reopen(self, error: Exception) -> Any:
        try:
            if self._runtime.asked == (CPU,):
                raise error
            session = self._runtime.open(self.path, (CPU,))
        except Exception as last:
            raise ModelError(
                what=f"{self.name} cannot be opened ({_first_line(last)}).",
                why=f"It should be {self.kind.value} as an ONNX file.",
                fix="Download it again, or update onnxruntime.",
            ) from last
        self._runtime.warn(
            f"{self.name} cannot be opened on {self._runtime.asked[0]} ({_first_line(error)}); "
            "it is computed on the CPU."
        )
        return session

    def _check_kind(self) -> None:
        inputs = [tuple(entry.shape) for entry in self._session.get_inputs()]
        output = tuple(self._session.get_outputs()[0].shape)
        found = recognise(inputs, output)
        if found is self.kind:
            return
        wanted = " or ".join(row.text() for row in _LAYOUTS if row.kind is self.kind)
        known = found.value if found else "neither a person detector nor a whole-body pose model"
        shapes = f"{', '.join(map(_shape, inputs))} -> {_shape(output)}"
        raise ModelError(
            what=f"{self.name} is {known} ({shapes}), where {self.kind.value} belongs.",
            why=f"Wanted is a model of the shape {wanted}.",
            fix=_ADVICE[self.kind],
        )


@dataclass(frozen=True)
class PoseModels:
    """What measures poses."""

    detector: OnnxModel
    pose: OnnxModel

    @classmethod
    def open(cls, detector: Path, pose: Path, device: str = "auto") -> PoseModels:
        """Open both files.

        Args:
            device: see `OnnxRuntime`.
        Raises:
            MissingFileError, ModelError, UnavailableError: see `OnnxModel`.
        """
        runtime = OnnxRuntime(device)
        return cls(
            OnnxModel(detector, ModelKind.DETECTOR, runtime),
            OnnxModel(pose, ModelKind.POSE, runtime),
        )

    @property
    def summary(self) -> str:
        """One line for the user: which files run where."""
        return f"{self.detector.summary}, {self.pose.summary}"


def recognise(
    inputs: list[tuple[int | str | None, ...]], output: tuple[int | str | None, ...]
) -> ModelKind | None:
    """The kind of a model by the shapes of its inputs and first output.

    Args:
        inputs: one shape per input; a name or None stands for any number.
        output: shape of the first output.
    """
    for row in _LAYOUTS:
        if (
            len(inputs) == 1
            and _fits(inputs[0], (None, 3, *row.image))
            and _fits(output, row.output)
        ):
            return row.kind
    return None


def _find(path: Path, kind: ModelKind) -> Path:
    path = path / _FOLDER_MODEL if path.is_dir() else path
    if not path.is_file():
        raise MissingFileError(
            what=f"There is no file '{path}'.",
            why=f"It was named as {kind.value}.",
            fix=_ADVICE[kind],
        )
    try:
        beside = data_files(path)
    except (ValueError, IndexError) as error:
        raise ModelError(
            what=f"'{path.name}' is no ONNX model ({error}).",
            why=f"It was chosen as {kind.value}. A model's data file, a broken download and a Git "
            "LFS pointer look like this.",
            fix=_ADVICE[kind],
        ) from None
    missing = [name for name in beside if not (path.parent / name).is_file()]
    if missing:
        raise MissingFileError(
            what=f"'{path.name}' keeps its weights in '{missing[0]}', which is not beside it.",
            why="A model of this size is split into two files, and both are needed.",
            fix=f"Put '{missing[0]}' into '{path.parent}' under exactly this name.",
        )
    return path


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(
            what=f"onnxruntime cannot be imported ({_first_line(error)}).",
            why="The person detector and the pose model are ONNX files, which it computes.",
            fix=f"Run: {sys.executable} -m pip install onnxruntime   "
            "(or onnxruntime-gpu for an NVIDIA GPU, never both)",
        ) from None
    return onnxruntime


def _fits(shape: tuple[int | str | None, ...], wanted: tuple[int | None, ...]) -> bool:
    """A dimension that the file leaves open fits any number."""
    return len(shape) == len(wanted) and all(
        want is None or not isinstance(have, int) or have == want
        for have, want in zip(shape, wanted, strict=True)
    )


def _shape(shape: tuple[int | str | None, ...]) -> str:
    return "x".join(str(size) if isinstance(size, int) else "?" for size in shape)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


_ADVICE = {
    ModelKind.DETECTOR: "Choose yolov10m.onnx as the detector.",
    ModelKind.POSE: (
        "Choose vitpose_h_wholebody_model.onnx (with vitpose_h_wholebody_data.bin beside it) or "
        "vitpose-l-wholebody.onnx as the pose model."
    ),
}
