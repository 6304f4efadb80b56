"""Every file the apps use: what it is called, where it comes from, and where people keep it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..payloads import Variant


@dataclass(frozen=True)
class CatalogFile:
    """One file of a public repository."""

    name: str
    """As it is called in the models folder; of a folder's files with the folder in front."""
    folder: str
    """Of ComfyUI's models folder."""
    repository: str
    """On huggingface.co."""
    path: str
    """Inside the repository."""
    licence: str
    gigabytes: float | None = None
    """About how large it is; None where nobody has said."""
    note: str = ""
    """What tells it from its alternatives."""

    @property
    def url(self) -> str:
        """Of its page."""
        return f"https://huggingface.co/{self.repository}/blob/main/{self.path}"


@dataclass(frozen=True)
class Need:
    """Something an app needs, and the files that can be it."""

    part: str
    """Name of a part of `ModelFiles` or of `Companions`."""
    files: tuple[CatalogFile, ...]
    """The first one is what is downloaded. Several belong together if `is_set`."""
    purpose: str
    is_needed: bool = True
    """False: the app runs without, and makes something simpler."""
    is_set: bool = False
    """Whether all of the files are needed and not just one."""


_APACHE = "Apache-2.0"
_WAN21 = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"
_WAN22 = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
_KIJAI = "Kijai/WanVideo_comfy"
_AUTHORS = "Wan-AI/Wan2.2-Animate-14B"
_SAM2 = "facebook/sam2-hiera-large"


def _repackaged(
    folder: str, name: str, gigabytes: float | None = None, note: str = "", of: str = _WAN21
) -> CatalogFile:
    path = f"split_files/{folder}/{name}"
    return CatalogFile(name, folder, of, path, _APACHE, gigabytes, note)


_TRANSFORMERS = "diffusion_models"
I2V_480P = _repackaged(_TRANSFORMERS, "wan2.1_i2v_480p_14B_fp16.safetensors", 32.8, "for 832x480")
I2V_720P = _repackaged(_TRANSFORMERS, "wan2.1_i2v_720p_14B_fp16.safetensors", 32.8, "for 1280x720")
FLF2V = _repackaged(
    _TRANSFORMERS, "wan2.1_flf2v_720p_14B_fp16.safetensors", 32.8, "for end frames, 1280x720"
)
FLF2V_FP8 = _repackaged(
    _TRANSFORMERS, "wan2.1_flf2v_720p_14B_fp8_e4m3fn.safetensors", 16.4, "likewise, half the size"
)
ANIMATE = _repackaged(_TRANSFORMERS, "wan2.2_animate_14B_bf16.safetensors", 34.55, of=_WAN22)
ANIMATE_FP8 = CatalogFile(
    "Wan2_2-Animate-14B_fp8_e4m3fn_scaled_KJ.safetensors",
    _TRANSFORMERS,
    "Kijai/WanVideo_comfy_fp8_scaled",
    "Wan22Animate/Wan2_2-Animate-14B_fp8_e4m3fn_scaled_KJ.safetensors",
    _APACHE,
    18.4,
    "half the size",
)
UMT5_FP8 = _repackaged(
    "text_encoders", "umt5_xxl_fp8_e4m3fn_scaled.safetensors", note="about half the size"
)
UMT5 = _repackaged("text_encoders", "umt5_xxl_fp16.safetensors", 11.4)
VAE = _repackaged("vae", "wan_2.1_vae.safetensors", 0.25)
CLIP = _repackaged("clip_vision", "clip_vision_h.safetensors", 1.3)
RELIGHT = CatalogFile(
    "WanAnimate_relight_lora_fp16.safetensors",
    "loras",
    _KIJAI,
    "LoRAs/Wan22_relight/WanAnimate_relight_lora_fp16.safetensors",
    _APACHE,
    1.44,
)
YOLO = CatalogFile(
    "yolov10m.onnx",
    "detection",
    _AUTHORS,
    "process_checkpoint/det/yolov10m.onnx",
    "AGPL-3.0",
)
VITPOSE = CatalogFile(
    "vitpose-l-wholebody.onnx",
    "detection",
    "JunkyByte/easy_ViTPose",
    "onnx/wholebody/vitpose-l-wholebody.onnx",
    _APACHE,
)
SAM2 = tuple(
    CatalogFile(f"sam2-hiera-large/{name}", "sam2", _SAM2, name, _APACHE)
    for name in ("config.json", "model.safetensors")
)
RIFE = CatalogFile(
    "rife_v4.26.safetensors",
    "frame_interpolation",
    "Comfy-Org/frame_interpolation",
    "frame_interpolation/rife_v4.26.safetensors",
    "MIT",
)

_SHARED = (
    Need("text_encoder", (UMT5_FP8, UMT5), "reads the prompt"),
    Need("vae", (VAE,), "turns pictures into latents and back"),
    Need("image_encoder", (CLIP,), "looks at the picture"),
)
NEEDS: dict[str, tuple[Need, ...]] = {
    "wan2-1-i2v": (
        Need("transformer", (I2V_480P, I2V_720P, FLF2V, FLF2V_FP8), "makes the video"),
        *_SHARED,
        Need("rife", (RIFE,), "more frames a second, for temporal_upsampling", is_needed=False),
    ),
    "wan-2-2-animate-v2v": (
        Need("transformer", (ANIMATE, ANIMATE_FP8), "makes the video"),
        *_SHARED,
        Need("detector", (YOLO,), "finds who moves"),
        Need("pose", (VITPOSE,), "measures joints, hands and face"),
        Need("relighting", (RELIGHT,), "fits the light, in replacement", is_needed=False),
        Need("sam2", SAM2, "better masks, in replacement", is_needed=False, is_set=True),
    ),
}
"""By app."""
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "wan2-1-i2v": (Variant.I2V, Variant.FLF2V),
    "wan-2-2-animate-v2v": (Variant.ANIMATE,),
}
"""Kinds of transformers that serve an app, best first."""


def all_files() -> Iterator[CatalogFile]:
    """Each file once."""
    yield from dict.fromkeys(file for needs in NEEDS.values() for n in needs for file in n.files)


def suggestion(part: str, wanted: tuple[Variant, ...] = ()) -> str:
    """A file that would serve, in words.

    Args:
        part: of `ModelFiles`.
        wanted: kinds of transformers that will do; empty: any.
    """
    for app, needs in NEEDS.items():
        for need in needs:
            if need.part == part and (not wanted or set(wanted) & set(VARIANTS[app])):
                file = need.files[0]
                return f"for example {file.name} of {file.repository}"
    return ""
