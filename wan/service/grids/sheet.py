"""The results of a grid in one video, each with its values."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy

from ...errors import Cancelled, WanError
from ...grid import describe
from ...media.compare import grid as tile
from ...media.resize import resize_to
from ...media.video import VideoFile, open_video
from ...progress import Reporter, Silent
from ..files import FileStore
from ..problems import ApiError
from ..records import File, Grid, Task
from ..statuses import Status
from ..store import GridStore, Store

WIDEST = 1920
"""Pixels of a sheet's width; its videos are made smaller to fit."""
_SMALLEST = 64


class Sheets:
    """Makes sheets, and keeps them as files.

    Args:
        folder: where one is written before it is kept.
    """

    def __init__(self, grids: GridStore, store: Store, files: FileStore, folder: Path) -> None:
        self._grids, self._store, self._files, self._folder = grids, store, files, folder
        self._lock = asyncio.Lock()
        self._stop = _Stop()

    async def get(self, grid: Grid, tasks: Mapping[str, Task]) -> File:
        """The sheet of an ended grid, made now unless it is there.

        Args:
            tasks: of the grid, by id.
        Raises:
            ApiError: conflict; there is no result, or one cannot be read.
        """
        async with self._lock:
            grid = await self._grids.grid(grid.id) or grid
            file = await self._store.file(grid.sheet) if grid.sheet else None
            if file is None:
                file = await self._make(grid, tasks)
                grid.sheet = file.id
                await self._grids.save(grid)
            return file

    async def forget(self, grid: Grid) -> None:
        """Delete it."""
        file = await self._store.file(grid.sheet) if grid.sheet else None
        if file is not None:
            await self._files.delete(file)

    def close(self) -> None:
        """Stop what is being made."""
        self._stop.is_set = True

    async def _make(self, grid: Grid, tasks: Mapping[str, Task]) -> File:
        paths, labels = [], []
        for item in grid.items:
            task = tasks.get(item["task_id"])
            file = await self._result(task) if task else None
            if file is not None:
                paths.append(self._files.path(file))
                labels.append(describe({n: _shown(grid, n, v) for n, v in item["values"].items()}))
        if not paths:
            raise ApiError("conflict", f"{grid.id} has no result that could be shown.")
        target = self._folder / f"{grid.id}.mp4"
        try:
            await asyncio.to_thread(write_sheet, paths, labels, target, self._stop)
            return await self._files.add_path(target, target.name, grid.key_id, move=True)
        except (WanError, Cancelled) as error:
            text = " ".join(str(error).split()) or "the server stops"
            raise ApiError("conflict", f"The sheet cannot be made: {text}") from None
        finally:
            await asyncio.to_thread(target.unlink, True)

    async def _result(self, task: Task) -> File | None:
        if task.status is not Status.COMPLETED:
            return None
        found = await self._store.files_of(task.id, "output")
        return next((f for _, f in found if f.content_type.startswith("video/")), None)


def write_sheet(
    paths: Sequence[Path], labels: Sequence[str], target: Path, reporter: Reporter | None = None
) -> None:
    """Write a video that shows others in rows, each with its label. Reads them frame by frame.

    Args:
        paths: at least one video; the first one's speed and aspect count.
        labels: one for each.
        target: .mp4; its width is at most `WIDEST`.
        reporter: asked often whether it shall stop.
    Raises:
        WanError: a video cannot be read, or the target not be written.
    """
    from ...save.video import write_video

    reporter = reporter or Silent()
    columns = math.ceil(math.sqrt(len(paths)))
    with ExitStack() as files:
        opened = [files.enter_context(open_video(path, reporter)) for path in paths]
        first = opened[0].facts
        width = max(_SMALLEST, min(first.width, WIDEST // columns)) // 2 * 2
        height = max(2, round(width * first.height / first.width / 2) * 2)
        videos = [_Read(video, width, height, reporter) for video in opened]
        sheet = tile(videos, labels, columns)
        write_video(target, _batches(sheet), first.fps, reporter=reporter)


class _Read:
    """The frames of an open video, which are asked for in rising order."""

    def __init__(self, video: VideoFile, width: int, height: int, reporter: Reporter) -> None:
        self._count = video.facts.frames
        self._frames = video.frames(tuple(range(self._count)), reporter)
        self._size = width, height
        self._number, self._frame = -1, np.zeros((height, width, 3), np.uint8)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> np.ndarray:
        while self._number < number:
            self._number, frame = next(self._frames, (number, None))
            if frame is not None:  # a damaged one is left out: the one before stands still
                self._frame = resize_to(np.array(frame), *self._size)
        return self._frame


class _Stop(Silent):
    is_set = False

    def check_cancelled(self) -> None:
        """Raise once the server stops."""
        if self.is_set:
            raise Cancelled


def _batches(frames: Sequence[np.ndarray]) -> Iterator[Tensor]:
    for number in range(len(frames)):
        yield from_numpy(frames[number])[None]


def _shown(grid: Grid, name: str, value: object) -> object:
    """A file as a reader tells it apart, which is by its place in the list."""
    return f"#{grid.axes[name].index(value) + 1}" if isinstance(value, Mapping) else value
