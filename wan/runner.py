"""Runs the service's jobs, one at a time, and keeps their models. Knows no transport: the local
worker process and the workers of a cluster call it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from .engine import Engine
from .errors import Cancelled, UpsamplingError, WanError
from .payloads import WanModel
from .progress import Preview
from .residency import DevicePlacement
from .service.progress import JobProgress
from .service.statuses import Status
from .spread import Spread

if TYPE_CHECKING:
    from .app import Surroundings

log = logging.getLogger("wan_local")

_TOO_BIG = "is not enough for this task. Use fewer frames or a smaller size"

Tell = Callable[..., None]
"""Called as tell(kind, **facts) with kind status, progress or log."""


class ClipKeeper(Protocol):
    """Who keeps the finished clips of a long job elsewhere, over the end of this machine."""

    def restore(self, folder: Path) -> None:
        """Put what an earlier attempt finished into the folder of kept runs."""
        ...

    def saved(self, path: Path) -> None:
        """A file of that folder is complete."""
        ...


class JobRunner:
    """Runs jobs and keeps the model of the last one.

    Args:
        engine: how they are computed.
        spread: does parts of long preprocessing and upsampling elsewhere; None: all is done here.
    """

    def __init__(self, engine: Engine, spread: Spread | None = None) -> None:
        self._engine, self._spread = engine, spread
        self._placement: DevicePlacement | None = None
        self._kept: dict[str, WanModel] = {}

    def run(
        self,
        job: Mapping[str, Any],
        tell: Tell,
        is_cancelled: Callable[[], bool],
        clips: ClipKeeper | None = None,
    ) -> dict[str, Any]:
        """Run a job to its end, whatever that is.

        Args:
            job: task_id, app, values with files as paths, and the folder for what it writes.
            tell: told of what happens.
            is_cancelled: asked at every step.
            clips: keeps finished clips; None: they stay in the job's folder.
        Returns:
            The facts of its end: status, error or files and facts; `is_broken` asks for another
            process, since after what nobody foresaw nobody knows how the models are.
        """
        facts: dict[str, Any]
        is_broken = False
        try:
            facts = self._make(job, tell, is_cancelled, clips)
        except Cancelled:
            facts = {"status": Status.CANCELLED}
        except WanError as error:
            facts = {"status": Status.FAILED, "error": " ".join(str(error).split())}
        except BaseException as error:  # a library's sys.exit, too, ends the job alone
            log.exception("A job failed")
            facts, is_broken = {"status": Status.FAILED, "error": error_words(error)}, True
        if "error" in facts:
            facts["error"] = _without_folders(facts["error"], job)
        return {**facts, "is_broken": is_broken}

    def _make(
        self,
        job: Mapping[str, Any],
        tell: Tell,
        is_cancelled: Callable[[], bool],
        clips: ClipKeeper | None,
    ) -> dict[str, Any]:
        from .app import RUNNERS
        from .params import APPS

        name = job["app"].rpartition("/")[2]
        reporter = JobReporter(tell, is_cancelled, name)
        reporter.check_cancelled()
        tell("status", status=Status.SETTING_UP)
        values = dict(job["values"])
        model = self._model(name, values, reporter)
        out = Path(job["folder"]) / "video.mp4"
        around = self._surroundings(model, out, clips)
        output = APPS[name].output
        try:
            result = RUNNERS[name](values, model, out, reporter, around)
        except UpsamplingError as error:  # the video without it is there, and worth having
            reporter.note(_without_folders(" ".join(str(error).split()), job))
            tell("status", status=Status.UPLOADING)
            return {"status": Status.COMPLETED, "files": {output: str(error.saved)}}
        tell("status", status=Status.UPLOADING)
        facts = {
            "width": result.width,
            "height": result.height,
            "frames": result.num_frames,
            "fps": result.fps,
            "seconds": result.seconds,
        }
        return {"status": Status.COMPLETED, "files": {output: str(result.path)}, "facts": facts}

    def _model(self, app: str, values: Mapping[str, Any], reporter: JobReporter) -> WanModel:
        from .terminal import open_models

        if self._placement is None:
            self._placement = self._engine.open_placement(values)
        self._placement.offload = self._engine.offload_of(values)
        if app not in self._kept:
            reporter.say("load the models")
            self._kept.clear()  # of two models one would not fit
            reporter.holds(str(self._placement.device), [])
            self._kept[app] = open_models(self._engine.models, self._placement, app)
            reporter.holds(str(self._placement.device), [app])
        return self._kept[app]

    def _surroundings(self, model: WanModel, out: Path, clips: ClipKeeper | None) -> Surroundings:
        from .terminal import surroundings

        around = surroundings(self._engine.models, model, out, fp8=self._engine.fp8)
        around = replace(around, spread=self._spread)
        if clips is None or around.places.kept is None:
            return around
        clips.restore(around.places.kept)
        return replace(around, places=replace(around.places, saved=clips.saved))


class JobReporter:
    """Tells what a run reports, and cancels it when that is wanted."""

    def __init__(self, tell: Tell, is_cancelled: Callable[[], bool], app: str) -> None:
        self._send, self._is_cancelled = tell, is_cancelled
        self._progress = JobProgress(app)
        self._said = ""

    def start(self, phase: str, total: int) -> None:
        """A phase begins."""
        self._send("status", status=Status.RUNNING)
        self._progress.start(phase, total)
        self._tell(0)

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Items of the phase are done."""
        self.check_cancelled()
        self._progress.update(done)
        self._tell(done)

    def check_cancelled(self) -> None:
        """Raise if it shall stop."""
        if self._is_cancelled():
            raise Cancelled

    def note(self, text: str) -> None:
        """A line of the log."""
        self._send("log", text=text)

    def holds(self, device: str, models: list[str]) -> None:
        """Where this process computes, and of which apps it has the models."""
        self._send("holds", device=device, models=models)

    def status(self, text: str) -> None:
        """What is happening now."""
        self._said = text

    def say(self, stage: str) -> None:
        """What is happening, outside of any phase."""
        self._send("progress", share=self._progress.share, stage=stage)

    def _tell(self, done: int) -> None:
        stage = self._said or self._progress.stage(done)
        self._said = ""
        self.say(stage)


def error_words(error: BaseException) -> str:
    """What the user reads of an error that nobody foresaw."""
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, torch.OutOfMemoryError):
        return f"The GPU's memory {_TOO_BIG}, or leave offload_model on."
    if isinstance(error, MemoryError) or "can't allocate memory" in first:
        return f"The memory of this machine {_TOO_BIG}."
    return f"{type(error).__name__}: {first}"


def _without_folders(text: str, job: Mapping[str, Any]) -> str:
    """Errors are answered to clients: files are told by their names alone."""
    paths = [
        Path(v) for v in job["values"].values() if isinstance(v, str) and Path(v).is_absolute()
    ]
    for folder in {Path(job["folder"]), *(path.parent for path in paths)}:
        text = text.replace(f"{folder}{os.sep}", "")
    return text
