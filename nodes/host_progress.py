"""A node's progress bar, preview, text line and cancel button in ComfyUI."""

import logging
import time
from collections.abc import Mapping

import comfy.model_management as memory
import latent_preview
from comfy.latent_formats import Wan21
from comfy.utils import ProgressBar

from ..wan.pace import Pace
from ..wan.progress import Preview
from .host_pictures import PictureMaker

log = logging.getLogger("wan_local")

# The bar moves in thousandths, so that phases of different length share it.
_BAR = 1000
_PREVIEW_PIXELS = 512
_BETWEEN_LINES = 0.3  # seconds, so that cheap items do not flood the page


class NodeReporter:
    """One node's progress bar, preview, text line and cancel button.

    Args:
        node: the node class inside `execute`.
        phases: the phases that may be reported, in their order, each with its share of the bar.
    """

    def __init__(self, node, phases: Mapping[str, float]) -> None:
        self._node_id = node.hidden.unique_id if node.hidden else None
        self._bar = ProgressBar(_BAR, node_id=self._node_id)
        whole = sum(phases.values())
        self._shares = {name: share / whole for name, share in phases.items()}
        self._finished = 0.0
        self._phase, self._total = "", 1
        self._value = 0
        self._pictures: PictureMaker | None = None
        self._has_previewer = True  # until the host says otherwise
        self._pace = Pace(time.monotonic)
        self._is_told = False  # by the stage itself, which knows more
        self._said_at, self._noted = 0.0, ""

    def start(self, phase: str, total: int) -> None:
        """A phase begins behind those before it, whether they ran or there was nothing to do."""
        if phase in self._shares:
            names = list(self._shares)
            self._finished = sum(self._shares[name] for name in names[: names.index(phase)])
        self._phase, self._total = phase, max(1, total)
        self._pace.begin()
        log.info("%s (%d)", phase, total)

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Move the bar; the host raises here if the user cancelled."""
        self.check_cancelled()
        self._show(waits=True)
        share = self._shares.get(self._phase, 0)
        self._value = round((self._finished + share * done / self._total) * _BAR)
        self._bar.update_absolute(self._value, _BAR)
        if preview is not None and self._has_previewer:
            self._begin_picture(preview)
            self._show(waits=done >= self._total)
        self._tell(done)

    def check_cancelled(self) -> None:
        """Raise the host's own interruption if the user cancelled; show a picture that is ready."""
        memory.throw_exception_if_processing_interrupted()
        self._show(waits=False)

    def note(self, text: str) -> None:
        """A line in the log and under the node."""
        log.info(text)
        self._noted = text
        self._say(text)

    def status(self, text: str) -> None:
        """What is happening now, from a stage that knows it better than the bar."""
        self._is_told = True
        self._say(text)

    def _tell(self, done: int) -> None:
        """Where the phase is and how long it will take; behind its last item the last note again,
        so that this is what stays."""
        self._pace.finish(done)
        if self._is_told:
            return
        if done >= self._total:
            self._say(self._noted or f"{self._phase}: done")
        elif time.monotonic() - self._said_at >= _BETWEEN_LINES:
            self._say(self._line(done))

    def _line(self, done: int) -> str:
        left = self._total - done
        if self._phase == "sample":
            return f"step {done} of {self._total}, {self._pace.describe('step', left)}"
        return f"{self._phase}: {done} of {self._total}, {self._pace.rest(left)}"

    def _say(self, text: str) -> None:
        """A line under the node, in place of the one before."""
        self._said_at = time.monotonic()
        server = _server()
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id)

    def _begin_picture(self, preview: Preview) -> None:
        if self._pictures is None:
            # Through the module at run time: other packs replace this function.
            device = memory.get_torch_device()
            previewer = latent_preview.get_previewer(device, Wan21())
            self._has_previewer = previewer is not None
            if previewer is None:
                return
            self._pictures = PictureMaker(previewer)
        self._pictures.begin(preview)

    def _show(self, waits: bool) -> None:
        made = self._pictures.take(waits) if self._pictures else None
        if made is not None:
            kind, picture, _ = made
            self._bar.update_absolute(self._value, _BAR, (kind, picture, _PREVIEW_PIXELS))


def _server():
    try:
        from server import PromptServer
    except ImportError:
        return None
    return getattr(PromptServer, "instance", None)
