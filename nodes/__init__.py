"""The ComfyUI side: the one list of all nodes, in the order of the menu."""

from comfy_api.latest import ComfyExtension, io

from .animate import WanLocalAnimate, WanLocalAnimateSampler
from .app_nodes import WanLocalAppInput, WanLocalAppOutput
from .bridge import WanLocalTextFromConditioning, WanLocalUseVae
from .compare import WanLocalCompare, WanLocalGrid, WanLocalValues
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
from .retarget import WanLocalPoseRetarget
from .sample import WanLocalSampler
from .samples import WanLocalSample
from .save import WanLocalSaveVideo
from .upsample import WanLocalLanczosResize, WanLocalRifeInterpolate, WanLocalRifeLoader

NODES: list[type[io.ComfyNode]] = [
    WanLocalSample,
    WanLocalModelLoader,
    WanLocalLoRA,
    WanLocalUseVae,
    WanLocalPromptEncode,
    WanLocalTextFromConditioning,
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
    WanLocalPoseRetarget,
    WanLocalPoseDraw,
    WanLocalFaceCrop,
    WanLocalSegmentPerson,
    WanLocalMaskDilate,
    WanLocalAnimate,
    WanLocalAnimateSampler,
    WanLocalRifeLoader,
    WanLocalRifeInterpolate,
    WanLocalLanczosResize,
    WanLocalSaveVideo,
    WanLocalCompare,
    WanLocalValues,
    WanLocalGrid,
    WanLocalAppInput,
    WanLocalAppOutput,
]


class WanLocalExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from .compat import usable

        return [node for node in NODES if usable(node)]
