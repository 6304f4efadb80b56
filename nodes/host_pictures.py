"""Preview pictures, made while the next step is already computed."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import latent_preview
import torch

from ..wan.progress import Preview

# Of the core's previewers the one that is nothing but a small product. Others load models of their
# own, or belong to other packs: they are called where they always were.
_LIGHT = getattr(latent_preview, "Latent2RGBPreviewer", ())


class PictureMaker:
    """Makes one picture at a time.

    A picture ends with a copy to the host, and whoever waits for that starts the next step late. A
    light previewer therefore works in a thread, on a CUDA stream of its own; the picture is handed
    out in the thread that asks for it, which is where the host wants its progress bar moved.

    Args:
        previewer: of `latent_preview.get_previewer`.
    """

    def __init__(self, previewer) -> None:
        self._previewer = previewer
        self._future: Future | None = None

    def begin(self, preview: Preview) -> None:
        """Begin a picture. The one before must have been taken."""
        if isinstance(self._previewer, _LIGHT):
            self._future = _thread().submit(self._make_beside, preview, _mark())
        else:
            self._future = Future()
            self._future.set_result(self._make(preview))

    def take(self, waits: bool):
        """The picture that was begun, (kind, image, longest side), once; None if there is none, or
        it is not finished and nobody `waits`."""
        future = self._future
        if future is None or not (waits or future.done()):
            return None
        self._future = None
        return future.result()

    def _make(self, preview: Preview):
        return self._previewer.decode_latent_to_preview_image("JPEG", preview())

    def _make_beside(self, preview: Preview, mark):
        with torch.inference_mode():
            if mark is None:
                return self._make(preview)
            event, stream = mark
            with torch.cuda.stream(stream):
                stream.wait_event(event)
                picture = self._make(preview)
            stream.synchronize()  # the latents may be freed behind this
            return picture


@lru_cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "wan_local_preview")


def _mark():
    """The moment up to which the device must have computed, and the stream that waits for it; None
    where the sampling thread computes by itself."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    return torch.cuda.current_stream().record_event(), _stream(torch.cuda.current_device())


@lru_cache
def _stream(device: int):
    return torch.cuda.Stream(device)
