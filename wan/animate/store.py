"""Finished clips: kept until the video is written, in memory or on disk, also over a crash."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..decode.colour import Palette
from ..errors import OutputError
from ..media.frames import ToPixels
from ..progress import Reporter

MOST_IN_MEMORY = 1_000_000_000
"""Bytes of finished frames from which on they wait on disk."""
_FRAMES_AT_ONCE = 16
_RUN_FILE = "run.json"
_DAYS_KEPT = 7
_SECONDS_A_DAY = 86_400

Saved = Callable[[Path], None]
"""Told of a file of a kept run that is complete, so that it can be copied elsewhere."""


@dataclass(frozen=True)
class FinishedClip:
    """What a sampled and decoded clip leaves behind."""

    frames: Tensor
    """[kept, H, W, 3] uint8: its part of the result."""
    tail: Tensor
    """[carry, H, W, 3] float32 in -1..1: its last frames as they were decoded, never rounded."""
    palette: Palette | None = None
    """Colours of the first clip, where later ones are matched to them."""


class ClipStore(Protocol):
    """Where finished clips wait."""

    def __len__(self) -> int:
        """Number of finished clips, those of an earlier run included."""
        ...

    def add(self, clip: FinishedClip) -> None:
        """Keep one more.

        Raises:
            OutputError: it cannot be written.
        """
        ...

    def tail(self) -> Tensor:
        """The last frames of the last clip; there must be one."""
        ...

    def palette(self) -> Palette | None:
        """The colours of the first clip, if they were measured."""
        ...

    def frames(self) -> Iterator[Tensor]:
        """All finished frames in order, [up to 16, H, W, 3] uint8 at a time."""
        ...

    def discard(self) -> None:
        """Let go of everything; the video is written, or not wanted."""
        ...


class MemoryClips:
    """Clips of a short video."""

    def __init__(self) -> None:
        self._clips: list[FinishedClip] = []

    def __len__(self) -> int:
        """Number of finished clips."""
        return len(self._clips)

    def add(self, clip: FinishedClip) -> None:
        """Keep one more; of those before it the tails are let go."""
        if self._clips:
            last = self._clips[-1]
            self._clips[-1] = FinishedClip(last.frames, last.tail[:0], last.palette)
        self._clips.append(clip)

    def tail(self) -> Tensor:
        """The last frames of the last clip."""
        return self._clips[-1].tail

    def palette(self) -> Palette | None:
        """The colours of the first clip."""
        return self._clips[0].palette

    def frames(self) -> Iterator[Tensor]:
        """All finished frames in order."""
        for clip in self._clips:
            yield from clip.frames.split(_FRAMES_AT_ONCE)

    def discard(self) -> None:
        """Let go of everything."""
        self._clips.clear()


class DiskClips:
    """Clips in files, one each, written under another name first.

    Args:
        folder: made if need be; what is in it belongs to this run.
        is_kept: whether the folder outlives an interrupted run; told to the user if the disk is
            full.
        saved: called with each file that is complete.
    """

    def __init__(self, folder: Path, is_kept: bool, saved: Saved | None = None) -> None:
        self.folder, self._is_kept, self._saved = folder, is_kept, saved
        _write(folder, "the folder", lambda: folder.mkdir(parents=True, exist_ok=True))
        self._count = 0
        while self._path(self._count).is_file():
            self._count += 1

    def __len__(self) -> int:
        """Number of finished clips."""
        return self._count

    def add(self, clip: FinishedClip) -> None:
        """Write one more; it appears under its name only when it is complete."""
        tensors = {"frames": clip.frames.contiguous(), "tail": clip.tail.contiguous()}
        if clip.palette is not None:
            tensors |= {"mean": clip.palette.mean, "covariance": clip.palette.covariance}
        path = self._path(self._count)
        hint = f"; the {self._count} finished before it are kept" if self._is_kept else ""
        _write(path, f"clip {self._count + 1}{hint}", lambda: _save(path, tensors))
        self._count += 1
        if self._saved:
            self._saved(path)

    def tail(self) -> Tensor:
        """The last frames of the last clip."""
        return self._load(self._count - 1, "tail")

    def palette(self) -> Palette | None:
        """The colours of the first clip."""
        from safetensors import safe_open

        with safe_open(self._path(0), framework="pt") as file:
            if "mean" not in file.keys():  # noqa: SIM118 - not a dictionary
                return None
            return Palette(file.get_tensor("mean"), file.get_tensor("covariance"))

    def frames(self) -> Iterator[Tensor]:
        """All finished frames in order; a few are read at a time."""
        from safetensors import safe_open

        for number in range(self._count):
            with safe_open(self._path(number), framework="pt") as file:
                stored = file.get_slice("frames")
                length = stored.get_shape()[0]
                for start in range(0, length, _FRAMES_AT_ONCE):
                    yield stored[start : start + _FRAMES_AT_ONCE]

    def discard(self) -> None:
        """Delete the folder, and the one it is in if no other run waits there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._count = 0
        if self._is_kept:
            with suppress(OSError):  # it holds other runs
                self.folder.parent.rmdir()

    def _path(self, number: int) -> Path:
        return self.folder / f"clip-{number:04}.safetensors"

    def _load(self, number: int, name: str) -> Tensor:
        from safetensors import safe_open

        with safe_open(self._path(number), framework="pt") as file:
            return file.get_tensor(name)


def temporary_clips(size: int, scratch: Path | None) -> ClipStore:
    """A store that does not outlive the run.

    Args:
        size: bytes of all finished frames together.
        scratch: where a long video's clips wait; None: the system's folder for temporary files.
    """
    if size <= MOST_IN_MEMORY:
        return MemoryClips()
    return DiskClips(Path(tempfile.mkdtemp(prefix="wan-clips-", dir=scratch)), is_kept=False)


def kept_clips(
    folder: Path, key: str, seed: int, saved: Saved | None = None
) -> tuple[DiskClips, int]:
    """The store of a run that goes on where it was interrupted.

    Args:
        folder: of all such runs; made if need be. Those that nobody came back to for a week are
            deleted.
        key: tells equal runs by everything that decides their result but the seed.
        seed: of a new run.
        saved: called with each file that is complete.
    Returns:
        The store, and the seed to use: that of the interrupted run if there is one.
    Raises:
        OutputError: nothing can be written there.
    """
    _forget_old(folder)
    store = DiskClips(folder / key, True, saved)
    record = store.folder / _RUN_FILE
    try:
        seed = int(json.loads(record.read_text("utf8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        store.discard()  # clips without a seed belong to nothing
        store = DiskClips(folder / key, True, saved)
        text = json.dumps({"seed": seed})
        _write(record, "the record of the run", lambda: record.write_text(text, "utf8"))
        if saved:
            saved(record)
    return store, seed


def _forget_old(folder: Path) -> None:
    oldest = time.time() - _DAYS_KEPT * _SECONDS_A_DAY
    for record in folder.glob(f"*/{_RUN_FILE}"):
        newest = max(path.stat().st_mtime for path in record.parent.iterdir())
        if newest < oldest:
            shutil.rmtree(record.parent, ignore_errors=True)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    partial = path.with_suffix(".partial")
    try:
        save_file(tensors, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, what: str, action) -> None:  # noqa: ANN001
    from safetensors import SafetensorError

    try:
        action()
    except (OSError, SafetensorError) as error:
        raise OutputError(
            what=f"Writing {what} to '{path.parent}' failed ({error}).",
            why="Finished clips of a long video wait on disk.",
            fix="Free some space there and run again.",
        ) from error


def to_store(frames: Tensor, reporter: Reporter) -> Tensor:
    """Frames in -1..1 as 0..255, rounded, never truncated.

    Args:
        frames: [T, H, W, 3] float32; not changed.
        reporter: told of pixels that are not numbers.
    """
    stored, pixels = torch.empty(frames.shape, dtype=torch.uint8), ToPixels()
    for frame, target in zip(frames, stored, strict=True):
        target.copy_(torch.from_numpy(pixels(frame.add(1).div_(2))))
    pixels.report(reporter)
    return stored
