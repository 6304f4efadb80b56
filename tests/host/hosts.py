"""One interface to every host: put a file in, run a prompt, see what happened.

`StandInHost` (standin_host.py) runs in this process, `RealHost` (real_host.py) is a ComfyUI
server. Both give the same `RunResult`, made from events in the wire shape of ComfyUI.
"""

import os
import queue
import shutil
import time
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

END = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}
GONE = "host_gone"  # our own event: no more events will come


class HostError(RuntimeError):
    """The host did not start, died or gave no answer in time; the text ends with its log."""


class PromptRefusedError(ValueError):
    """The host refused the prompt; `body` is its answer, with `error` and `node_errors`."""

    def __init__(self, body):
        self.body = body
        super().__init__(f"prompt refused: {refusal_text(body)}")


def refusal_text(body):
    """Every problem of a 400 body on a line of its own."""
    error = body.get("error") or {}
    lines = [f"{error.get('type')}: {error.get('message')}"]
    for node_id, entry in body.get("node_errors", {}).items():
        for found in entry["errors"]:
            lines.append(f"{node_id} {entry['class_type']}: {found['message']}: {found['details']}")
    return "\n".join(lines)


@dataclass
class RunResult:
    """What a run did.

    Attributes:
        status: "success", "error" or "interrupted".
        events: every event of this run, {"type", "data"}, in order; previews without the pixels.
        outputs: result files on disk, in the order the nodes gave them.
        ui: {node id: what the node told the page}.
        cached: ids of nodes that did not run because their outputs were known.
        executed: ids of nodes that ran, in order.
        progress: {node id: [(value, total), ...]} as the progress bars reported.
        previews: how many preview images came.
        error, error_type, error_node: message, class name without module, node id; or None.
        node_errors: problems of outputs that were left out although the prompt ran.
        seconds: from sending the prompt to its end.
        cancel_seconds: from the interrupt to the end; None where there was none.
    """

    prompt_id: str
    status: str = "running"
    events: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    ui: dict = field(default_factory=dict)
    cached: list = field(default_factory=list)
    executed: list = field(default_factory=list)
    progress: dict = field(default_factory=dict)
    previews: int = 0
    error: str | None = None
    error_type: str | None = None
    error_node: str | None = None
    node_errors: dict = field(default_factory=dict)
    seconds: float = 0.0
    cancel_seconds: float | None = None

    def add(self, event):
        """Take in one event."""
        kind, data = event["type"], event["data"]
        self.events.append(event)
        if kind == "execution_cached":
            self.cached += data["nodes"]
        elif kind == "executing" and data["node"] not in (None, *self.executed):
            self.executed.append(data["node"])  # a lazy node is announced more than once
        elif kind == "progress":
            self.progress.setdefault(data["node"], []).append((data["value"], data["max"]))
        elif kind == "preview":
            self.previews += 1
        elif kind == "executed" and data["output"]:
            self.ui[data["node"]] = data["output"]
        elif kind == "execution_error":
            self.error = data["exception_message"].strip()
            self.error_type = data["exception_type"].rpartition(".")[2]
            self.error_node = data["node_id"]
        self.status = END.get(kind, self.status)

    def find_files(self, base):
        """Turn the file entries of `ui` into paths below the host's base directory; pictures for
        the page only are left out."""
        for output in self.ui.values():
            for entries in output.values():
                for entry in entries if isinstance(entries, list | tuple) else ():
                    if isinstance(entry, dict) and entry.get("type") in ("output", "input"):
                        folder = Path(base, entry["type"], entry["subfolder"])
                        self.outputs.append(folder / entry["filename"])


class Host(ABC):
    """A place where prompts run. `base` holds input/, output/, temp/ and models/."""

    name: str
    base: Path

    def __init__(self):
        self.events = queue.Queue()

    def activate(self):  # noqa: B027
        """Called before each test: hosts in one process share `folder_paths`."""

    @property
    def models_dir(self):
        return self.base / "models"

    def put_input(self, path, name=None):
        """Copy a file into the input folder; returns the name a load node takes."""
        target = self.base / "input" / (name or Path(path).name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return target.relative_to(self.base / "input").as_posix()

    def run(self, prompt, timeout=300.0, extra_pnginfo=None):
        """Run a prompt to its end.

        Raises:
            PromptRefusedError: the host refused it.
            HostError: it did not end in `timeout` seconds, or the host died.
        """
        return self._follow(prompt, None, timeout, extra_pnginfo)

    def run_and_interrupt(self, prompt, after, timeout=120.0):
        """Run a prompt and cancel it at the first event for which `after(event)` is true."""
        return self._follow(prompt, after, timeout, None)

    def _follow(self, prompt, after, timeout, extra_pnginfo):
        self._drain()
        result = RunResult(prompt_id=str(uuid.uuid4()))
        start = time.monotonic()
        result.node_errors = self._start(prompt, result.prompt_id, extra_pnginfo)
        cancelled = None
        while result.status == "running":
            event = self._next_event(start + timeout, result.prompt_id)
            result.add(event)
            if after is not None and cancelled is None and after(event):
                cancelled = time.monotonic()
                self._interrupt(result.prompt_id)
        result.seconds = time.monotonic() - start
        if cancelled is not None:
            result.cancel_seconds = time.monotonic() - cancelled
        result.find_files(self.base)
        return result

    def _next_event(self, deadline, prompt_id):
        while True:
            try:
                event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self._interrupt(prompt_id)
                raise HostError(f"{self.name}: no end in time\n{self.log()[-4000:]}") from None
            if event["type"] == GONE:
                raise HostError(f"{self.name}: the host died\n{self.log()[-4000:]}")
            # Events of the page (queue length and the like) belong to no prompt.
            if event["data"].get("prompt_id") == prompt_id:
                return event

    def _drain(self):
        while not self.events.empty():
            self.events.get_nowait()

    @abstractmethod
    def object_info(self):
        """{node id: inputs, outputs, texts} as GET /object_info answers it."""

    @abstractmethod
    def validate(self, prompt):
        """The 400 body for a prompt that must be refused; {} for a good one. Runs nothing.

        A real server has no way to ask without running: there a good prompt is taken back,
        and a fast one may have run.
        """

    @abstractmethod
    def alive(self):
        """Whether the host still answers."""

    @abstractmethod
    def log(self):
        """What the host printed or logged so far."""

    @abstractmethod
    def close(self):
        """Stop the host and remove its base directory."""

    @abstractmethod
    def _start(self, prompt, prompt_id, extra_pnginfo):
        """Begin a run; returns the problems of outputs left out, or raises PromptRefusedError."""

    @abstractmethod
    def _interrupt(self, prompt_id):
        """Cancel the run."""


def find_checkouts():
    """Folders of ComfyUI: those in COMFYUI_PATH, else every ~/comfy/ComfyUI* with a main.py."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        return [Path(part).expanduser().resolve() for part in named.split(os.pathsep) if part]
    found = sorted((Path.home() / "comfy").glob("ComfyUI*"))
    return [path for path in found if (path / "main.py").is_file()]


def find_pack(name):
    """Folder of another node pack, in COMFYUI_PACKS or ~/comfy; None where there is none."""
    places = os.environ.get("COMFYUI_PACKS", str(Path.home() / "comfy")).split(os.pathsep)
    found = (Path(place).expanduser() / name for place in places if place)
    return next((path for path in found if (path / "__init__.py").is_file()), None)
