"""The command-line settings a pack may read. Tests set attributes of `args` directly."""

from enum import Enum
from types import SimpleNamespace


class LatentPreviewMethod(Enum):
    NoPreviews = "none"
    Auto = "auto"
    Latent2RGB = "latent2rgb"
    TAESD = "taesd"


args = SimpleNamespace(
    base_directory=None,
    cpu=True,
    deterministic=False,
    disable_metadata=False,
    gpu_only=False,
    highvram=False,
    listen="127.0.0.1",
    lowvram=False,
    novram=False,
    port=8188,
    preview_method=LatentPreviewMethod.NoPreviews,
    preview_size=512,
    reserve_vram=None,
)
