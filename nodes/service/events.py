"""Reads what ComfyUI tells about a prompt through a socket that is none."""

import json
import logging
import struct
from collections.abc import Callable

log = logging.getLogger("wan_local")

_TEXT, _PREVIEW_WITH_METADATA = 3, 4


class EventSocket:
    """Stands among the server's websockets.

    An exception that left a method would end ComfyUI's one publishing loop and the process with
    it: none does, and neither method waits for anything.

    Args:
        prompt_id: whose events count.
        on_event: called with kind and data of each.
        on_picture: called with each preview, the bytes of a JPEG.
        on_text: called with node and text of each line under a node, whoever's it is.
        on_queue: called when anybody's prompt was queued, taken or ended.
    """

    def __init__(
        self,
        prompt_id: str,
        on_event: Callable[[str, dict], None],
        on_picture: Callable[[bytes], None],
        on_text: Callable[[str, str], None],
        on_queue: Callable[[], None],
    ) -> None:
        self._prompt_id = prompt_id
        self._on_event = on_event
        self._on_picture = on_picture
        self._on_text = on_text
        self._on_queue = on_queue

    async def send_json(self, message: dict) -> None:
        """An event of the server."""
        try:
            kind, data = message["type"], message.get("data") or {}
            if kind == "status":
                self._on_queue()
            elif data.get("prompt_id") == self._prompt_id:
                self._on_event(kind, data)
        except Exception:
            log.exception("An event of ComfyUI could not be read")

    async def send_bytes(self, data: bytes) -> None:
        """A preview, or the text under a node."""
        try:
            (kind,) = struct.unpack_from(">I", data)
            if kind == _PREVIEW_WITH_METADATA:
                self._read_picture(data)
            elif kind == _TEXT:
                (length,) = struct.unpack_from(">I", data, 4)
                node = bytes(data[8 : 8 + length]).decode()
                self._on_text(node, bytes(data[8 + length :]).decode("utf-8", "replace"))
        except Exception:
            log.exception("A picture of ComfyUI could not be read")

    def _read_picture(self, data: bytes) -> None:
        (length,) = struct.unpack_from(">I", data, 4)
        about = json.loads(bytes(data[8 : 8 + length]))
        if about.get("prompt_id") == self._prompt_id and about.get("image_type") == "image/jpeg":
            self._on_picture(bytes(data[8 + length :]))
