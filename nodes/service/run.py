"""One job on its way through ComfyUI's queue."""

import logging
import time
from dataclasses import dataclass, field
from uuid import uuid4

from ...wan.service.executor import Job, Listener
from ...wan.service.statuses import Status
from .graphs import SAVE, Filled
from .progress import LOADERS, NodeProgress, Speeds, describe

log = logging.getLogger("wan_local")

_SETTING_UP = {
    *LOADERS,
    "WanLocalModelLoader",
    "WanLocalLoRA",
    "WanLocalPoseModelLoader",
    "WanLocalRifeLoader",
    "UNETLoader",
    "CheckpointLoaderSimple",
    "CLIPLoader",
    "VAELoader",
}
_UPLOADING = {SAVE, "SaveVideo", "SaveImage", "WanLocalAppOutput"}


@dataclass
class Run:
    """A job, its graph, and what was told of it so far. Lives in the server's event loop."""

    job: Job
    speeds: Speeds
    filled: Filled | None = None
    """None while its files are looked for."""
    prompt_id: str = field(default_factory=lambda: str(uuid4()))
    is_queued: bool = False
    """Whether the host has accepted it."""
    cancel_asked: bool = False
    is_read: bool = False
    """Whether its end was found in the host's history."""
    is_ended: bool = False
    misses: int = 0
    """How often in a row the host knew nothing of it."""
    progress: NodeProgress | None = None
    node: str = ""
    """The one that runs."""
    entered: float = 0.0
    """When it began, on the monotonic clock."""
    status: Status = Status.QUEUED
    said: str = ""

    @property
    def client_id(self) -> str:
        """Under which the host sends this job's events."""
        return f"infsh-{self.job.task_id}"

    def take(self, kind: str, data: dict, listener: Listener) -> None:
        """Take in an event of this prompt and tell the listener what it means."""
        if kind == "execution_start":
            self._reach(Status.PREPARING, listener)
        elif kind == "execution_cached":
            self.progress.finish(data.get("nodes") or ())
            self._tell(listener)
        elif kind == "executing" and data.get("node"):
            self._leave()
            self.node = str(data.get("display_node") or data["node"])
            self._enter(listener)
        elif kind == "progress_state":
            for node in (data.get("nodes") or {}).values():
                share = node["value"] / node["max"] if node.get("max") else 0.0
                if node.get("state") == "finished":
                    share = 1.0
                self.progress.move(str(node.get("real_node_id") or node["node_id"]), share)
            self._tell(listener)
        elif kind == "execution_success":
            self._leave()
            self.progress.finish(self.filled.graph)

    def say(self, node: str, text: str, listener: Listener) -> None:
        """A line that a node wrote under itself."""
        # The host does not say whose node it is; only one prompt runs at a time.
        if self.status >= Status.PREPARING and node in self.filled.graph:
            listener.log(self.job.task_id, f"{self.filled.title(node)}: {text}")

    def _leave(self) -> None:
        """Learn how long a node took that came to its end."""
        node = self.filled.graph.get(self.node)
        if node is not None:
            self.speeds.learn(node, time.monotonic() - self.entered)
        self.entered = time.monotonic()

    def _enter(self, listener: Listener) -> None:
        kind = self.filled.graph.get(self.node, {}).get("class_type", "")
        if kind in _UPLOADING:
            self._reach(Status.UPLOADING, listener)
        else:
            self._reach(Status.SETTING_UP if kind in _SETTING_UP else Status.RUNNING, listener)
        self._tell(listener)

    def _reach(self, status: Status, listener: Listener) -> None:
        # A graph may load something late; a task's status never goes back.
        if status > self.status and not self.cancel_asked:
            self.status = status
            listener.status(self.job.task_id, status)

    def _tell(self, listener: Listener) -> None:
        node = self.filled.graph.get(self.node)
        stage = ""
        if node is not None:
            share = self.progress.of(self.node)
            stage = describe(node, self.filled.title(self.node), share)
            if stage != self.said and (share < 1 or "/" in stage):
                self.said = stage
                listener.log(self.job.task_id, stage)
        listener.progress(self.job.task_id, self.progress.share, stage)
