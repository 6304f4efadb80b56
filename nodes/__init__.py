"""The ComfyUI side: the one list of all nodes, in the order of the menu."""

from comfy_api.latest import ComfyExtension, io

from .decode import WanLocalDecode
from .encode import WanLocalImageToVideo, WanLocalPromptEncode
from .load import WanLocalModelLoader
from .lora import WanLocalLoRA
from .options import (
    WanLocalGuidanceOptions,
    WanLocalMagCache,
    WanLocalSamplingOptions,
    WanLocalTeaCache,
)
from .pose import (
    WanLocalPoseDraw,
    WanLocalPoseExtract,
    WanLocalPoseFromKeypoints,
    WanLocalPoseModelLoader,
)
from .preprocess import (
    WanLocalDrivingFrames,
    WanLocalFaceCrop,
    WanLocalMaskDilate,
    WanLocalReadDrivingVideo,
    WanLocalSegmentPerson,
)
from .sample import WanLocalSampler
from .upsample import WanLocalLanczosResize, WanLocalRifeInterpolate, WanLocalRifeLoader

NODES: list[type[io.ComfyNode]] = [
    WanLocalModelLoader,
    WanLocalLoRA,
    WanLocalPromptEncode,
    WanLocalImageToVideo,
    WanLocalSampler,
    WanLocalTeaCache,
    WanLocalMagCache,
    WanLocalGuidanceOptions,
    WanLocalSamplingOptions,
    WanLocalDecode,
    WanLocalPoseModelLoader,
    WanLocalReadDrivingVideo,
    WanLocalDrivingFrames,
    WanLocalPoseExtract,
    WanLocalPoseFromKeypoints,
    WanLocalPoseDraw,
    WanLocalFaceCrop,
    WanLocalSegmentPerson,
    WanLocalMaskDilate,
    WanLocalRifeLoader,
    WanLocalRifeInterpolate,
    WanLocalLanczosResize,
]


class WanLocalExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .compat import usable

        return [node for node in NODES if usable(node)]
