"""The stand-in as a `Host`: prompts run in a thread of this process."""

import logging
import shutil
import tempfile
import threading
from pathlib import Path

from . import use_standin
from .hosts import GONE, Host, PromptRefusedError
from .runner import GraphRunner, load_nodes


class _Lines(logging.Handler):
    """Keeps what was logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


class StandInHost(Host):
    """Runs the pack without ComfyUI.

    Args:
        pack: module with `comfy_entrypoint`; the `wan_local` of sys.modules when None.
        previews: whether `latent_preview.get_previewer` gives a previewer.
    """

    name = "stand-in"

    def __init__(self, pack=None, previews=True):
        super().__init__()
        use_standin()
        self.base = Path(tempfile.mkdtemp(prefix="standin_host_"))
        self.previews = previews
        self.activate()
        self._lines = _Lines()
        self._lines.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        logging.getLogger().addHandler(self._lines)
        self.runner = GraphRunner(load_nodes(pack), self.events.put)
        self._thread = None

    def activate(self):
        """Point `folder_paths` and the preview method at this host."""
        import folder_paths
        from comfy.cli_args import LatentPreviewMethod, args

        folder_paths.use_base_directory(self.base)
        method = LatentPreviewMethod
        args.preview_method = method.Latent2RGB if self.previews else method.NoPreviews

    def object_info(self):
        self.activate()
        return {name: cls.GET_NODE_INFO_V1() for name, cls in self.runner.nodes.items()}

    def validate(self, prompt):
        self.activate()
        return self.runner.validate(copy_prompt(prompt))[1] or {}

    def alive(self):
        return self.base.is_dir()

    def log(self):
        return "\n".join(self._lines.lines)

    def close(self):
        if self._thread is not None:
            self._interrupt(None)
            self._thread.join(timeout=30)
        logging.getLogger().removeHandler(self._lines)
        shutil.rmtree(self.base, ignore_errors=True)

    def _start(self, prompt, prompt_id, extra_pnginfo):
        if self._thread is not None:
            self._thread.join()  # the last event of a run comes just before its clean-up
        self.activate()
        prompt = copy_prompt(prompt)  # validation converts values in place
        targets, body = self.runner.validate(prompt)
        if not targets:
            raise PromptRefusedError(body)
        extra_data = {"extra_pnginfo": extra_pnginfo}

        def work():
            try:
                self.runner.execute(prompt, targets, prompt_id, extra_data)
            except BaseException:
                logging.getLogger("standin").exception("the runner itself failed")
                self.events.put({"type": GONE, "data": {}})

        self._thread = threading.Thread(target=work, name="standin-run", daemon=True)
        self._thread.start()
        return body["node_errors"] if body else {}

    def _interrupt(self, prompt_id):
        import comfy.model_management as management

        management.interrupt_current_processing()


def copy_prompt(prompt):
    """A copy whose inputs can be changed."""
    return {key: {**node, "inputs": dict(node["inputs"])} for key, node in prompt.items()}
