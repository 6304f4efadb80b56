"""The names a V3 node pack imports, with the argument names of ComfyUI 0.3.64.

Written from the documented behaviour, not from the host's code. What is missing here (dynamic
inputs, node expansion) is missing on purpose: a pack that needs it must show it on a
real host.
"""

from abc import ABC, abstractmethod

from . import _io as io
from . import _ui as ui
from ._video import (
    VideoCodec,
    VideoComponents,
    VideoContainer,
    VideoFromComponents,
    VideoFromFile,
    VideoInput,
)


class ComfyExtension(ABC):
    """What `comfy_entrypoint` returns."""

    async def on_load(self):  # noqa: B027
        """Awaited before the nodes are asked for (0.33; 0.3.64 never calls it)."""

    @abstractmethod
    async def get_node_list(self):
        """The node classes of the pack, as a list."""


class Input:
    """Types a node may annotate its arguments with."""

    Image = io.Image.Type
    Mask = io.Mask.Type
    Audio = dict
    Latent = dict
    Video = VideoInput


class InputImpl:
    """Ready implementations of the VIDEO type."""

    VideoFromFile = VideoFromFile
    VideoFromComponents = VideoFromComponents


class Types:
    """Helpers of the VIDEO type."""

    VideoCodec = VideoCodec
    VideoContainer = VideoContainer
    VideoComponents = VideoComponents


__all__ = ["ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]
