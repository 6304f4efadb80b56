"""The process that runs the jobs of `python -m wan serve`: JSON lines in, JSON lines out.

In come {"run": {task_id, app, values, folder}} and {"cancel": task_id}; out go {"kind": ...} for
status, progress, log and ended. The input ends when the server does, and so does this. There are no
previews: the pack has no cheap way from latents to colours (inside ComfyUI the host has one).
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from .errors import Cancelled, UpsamplingError, WanError
from .payloads import WanModel
from .progress import Preview
from .residency import DevicePlacement, Offload
from .service.progress import JobProgress
from .service.statuses import Status

log = logging.getLogger("wan_local")

_TOO_BIG = "is not enough for this task. Use fewer frames or a smaller size"
_PR_SET_PDEATHSIG = 1


class Worker:
    """Runs jobs one after the other and keeps their models.

    Args:
        models: "mini", "tiny" or a folder of weights.
        device: "auto" or a torch device.
        out: where messages go.
        offload: what leaves the device in every job; None: as each job says.
        ranks: how many processes compute one video, each on a device of its own.
    """

    def __init__(
        self, models: str, device: str, out: TextIO, offload: str | None = None, ranks: int = 1
    ) -> None:
        self._models, self._device, self._out, self._offload = models, device, out, offload
        self._ranks = ranks
        self._placement: DevicePlacement | None = None
        self._jobs: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        self._kept: dict[str, WanModel] = {}
        self._lock = threading.Lock()

    def listen(self, lines: TextIO) -> None:
        """Take messages until there are no more, then end the process."""
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self._cancelled.add(message["cancel"])
            else:
                self._jobs.put(message["run"])
        os._exit(0)  # the server is gone; whatever computes here would compute for nobody

    def work(self) -> None:
        """Run jobs forever."""
        while True:
            job = self._jobs.get()
            self.tell("ended", job["task_id"], **self._run(job))

    def tell(self, kind: str, task_id: str, **facts: Any) -> None:
        """Send a message."""
        text = json.dumps({"kind": kind, "task_id": task_id, **facts})
        with self._lock:
            self._out.write(text + "\n")
            self._out.flush()

    def is_cancelled(self, task_id: str) -> bool:
        """Whether the server wants it to stop."""
        return task_id in self._cancelled

    def _run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The facts of its end; `is_broken` asks for another process, since after what nobody
        foresaw nobody knows how the models are."""
        facts: dict[str, Any]
        is_broken = False
        try:
            facts = self._make(job)
        except Cancelled:
            facts = {"status": Status.CANCELLED}
        except WanError as error:
            facts = {"status": Status.FAILED, "error": " ".join(str(error).split())}
        except BaseException as error:  # a library's sys.exit, too, ends the job alone
            log.exception("A job failed")
            facts, is_broken = {"status": Status.FAILED, "error": _words(error)}, True
        if "error" in facts:
            facts["error"] = _without_folders(facts["error"], job)
        return {**facts, "is_broken": is_broken}

    def _make(self, job: Mapping[str, Any]) -> dict[str, Any]:
        from .app import RUNNERS
        from .params import APPS
        from .terminal import offload_of, surroundings

        name = job["app"].rpartition("/")[2]
        reporter = WorkerReporter(self, job["task_id"], name)
        reporter.check_cancelled()
        self.tell("status", job["task_id"], status=Status.SETTING_UP)
        values = dict(job["values"])
        model = self._model(name, offload_of(values, self._offload), reporter)
        out = Path(job["folder"]) / "video.mp4"
        around = surroundings(self._models, model, out)
        output = APPS[name].output
        try:
            result = RUNNERS[name](values, model, out, reporter, around)
        except UpsamplingError as error:  # the video without it is there, and worth having
            reporter.note(_without_folders(" ".join(str(error).split()), job))
            self.tell("status", job["task_id"], status=Status.UPLOADING)
            return {"status": Status.COMPLETED, "files": {output: str(error.saved)}}
        self.tell("status", job["task_id"], status=Status.UPLOADING)
        facts = {
            "width": result.width,
            "height": result.height,
            "frames": result.num_frames,
            "fps": result.fps,
            "seconds": result.seconds,
        }
        return {"status": Status.COMPLETED, "files": {output: str(result.path)}, "facts": facts}

    def _model(self, app: str, offload: Offload, reporter: WorkerReporter) -> WanModel:
        from .terminal import open_device, open_models

        if self._placement is None:
            self._placement = open_device(self._device, ranks=self._ranks)
        self._placement.offload = offload
        if app not in self._kept:
            reporter.say("load the models")
            self._kept.clear()  # of two models one would not fit
            self._kept[app] = open_models(self._models, self._placement, app)
        return self._kept[app]


class WorkerReporter:
    """Sends what a run reports, and cancels it when the server wants so."""

    def __init__(self, worker: Worker, task_id: str, app: str) -> None:
        self._worker, self._task_id = worker, task_id
        self._progress = JobProgress(app)
        self._said = ""

    def start(self, phase: str, total: int) -> None:
        """A phase begins."""
        self._worker.tell("status", self._task_id, status=Status.RUNNING)
        self._progress.start(phase, total)
        self._tell(0)

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Items of the phase are done."""
        self.check_cancelled()
        self._progress.update(done)
        self._tell(done)

    def check_cancelled(self) -> None:
        """Raise if the server wants it to stop."""
        if self._worker.is_cancelled(self._task_id):
            raise Cancelled

    def note(self, text: str) -> None:
        """A line of the log."""
        self._worker.tell("log", self._task_id, text=text)

    def status(self, text: str) -> None:
        """What is happening now."""
        self._said = text

    def say(self, stage: str) -> None:
        """What is happening, outside of any phase."""
        self._worker.tell("progress", self._task_id, share=self._progress.share, stage=stage)

    def _tell(self, done: int) -> None:
        stage = self._said or self._progress.stage(done)
        self._said = ""
        self.say(stage)


def _words(error: BaseException) -> str:
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


def _end_with_server() -> None:
    """End when the server does, even if this process is too busy to read that its input ended, and
    not before: what stops the server reaches its whole group or unit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_worker(models: str, device: str, offload: str | None = None, ranks: int = 1) -> int:
    """Serve jobs from stdin until it ends; arguments as `Worker`."""
    _end_with_server()
    # Messages have a channel of their own: whatever libraries print goes to stderr.
    out = os.fdopen(os.dup(1), "w", encoding="ascii", newline="\n")
    os.dup2(2, 1)
    worker = Worker(models, device, out, offload, ranks)
    threading.Thread(target=worker.listen, args=(sys.stdin,), daemon=True).start()
    worker.work()
    return 0
