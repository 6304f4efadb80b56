"""Prompt and first frame."""

from comfy_api.latest import io

from ..wan.encode.condition import (
    EXTRA_LATENT_CHOICES,
    SIZE_MODES,
    EndFrame,
    area_advice,
    condition_on_image,
    video_size,
)
from ..wan.encode.prompt import encode_prompts
from ..wan.geometry import SIZE_STEP, round_frames
from ..wan.params import I2V_APP
from . import compat
from .host_progress import NodeReporter
from .inputs import clip_features, clip_vision_input, from_param
from .sockets import WanCondition, WanModel, WanText


class WanLocalPromptEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalPromptEncode",
            display_name="Wan Prompt Encode",
            category="wan/2 encode",
            description="Turns the prompt and the negative prompt into what the model reads.",
            search_aliases=["wan text encode", "umt5", "negative prompt"],
            inputs=[
                WanModel.Input("model", tooltip="From Wan Model Loader."),
                from_param(
                    I2V_APP["prompt"],
                    multiline=True,
                    default="",
                    tooltip="What happens in the video. Wan 2.2 Animate has a default text for an "
                    "empty prompt, with which it works best; other weights need one.",
                ),
                from_param(I2V_APP["negative_prompt"], multiline=True),
            ],
            outputs=[
                WanText.Output(
                    "text", display_name="text", tooltip="Both prompts, for Wan Sampler."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, prompt, negative_prompt):
        reporter = NodeReporter(cls, {"encode prompt": 1})
        return io.NodeOutput(encode_prompts(model, prompt, negative_prompt, reporter))


class WanLocalImageToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalImageToVideo",
            display_name="Wan Image to Video",
            category="wan/2 encode",
            description="Makes an image the first frame of a video to be sampled.",
            search_aliases=["wan i2v", "image to video", "start frame"],
            inputs=[
                WanModel.Input("model", tooltip="I2V or FLF2V weights, from Wan Model Loader."),
                io.Image.Input(
                    "image", tooltip="The first frame. Of a batch the first picture is taken."
                ),
                compat.make_input(
                    io.Int.Input,
                    "width",
                    default=832,
                    min=SIZE_STEP,
                    max=8192,
                    step=SIZE_STEP,
                    tooltip="With height: the area of the video. Its aspect is the image's.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "height",
                    default=480,
                    min=SIZE_STEP,
                    max=8192,
                    step=SIZE_STEP,
                    tooltip="With width: the area of the video. Its aspect is the image's.",
                ),
                from_param(I2V_APP["num_frames"], step=4),
                compat.make_input(
                    io.Combo.Input,
                    "size_mode",
                    options=list(SIZE_MODES),
                    default=SIZE_MODES[0],
                    tooltip="area: about as many pixels, in the image's own aspect. exact: this "
                    "width and height, the image cropped around its middle.",
                ),
                from_param(I2V_APP["vae_tile_size"]),
                compat.make_input(
                    io.Combo.Input,
                    "add_frames_for_end_image",
                    options=list(EXTRA_LATENT_CHOICES),
                    default=EXTRA_LATENT_CHOICES[0],
                    tooltip="on: the end frame gets a latent frame of its own, which plain I2V "
                    "weights need. off: it is the last frame, as FLF2V and Fun-InP weights were "
                    "trained. auto: by the weights.",
                ),
                io.Image.Input(
                    "end_frame",
                    optional=True,
                    tooltip="The picture the video should end on; cropped to the video's aspect.",
                ),
                clip_vision_input(),
            ],
            outputs=[
                WanCondition.Output(
                    "condition",
                    display_name="condition",
                    tooltip="The frames that are given, for Wan Sampler.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        image,
        width,
        height,
        num_frames,
        size_mode,
        vae_tile_size,
        add_frames_for_end_image,
        end_frame=None,
        clip_vision_output=None,
    ):
        reporter = NodeReporter(cls, {"encode image": 1, "encode frames": 4})
        size = video_size(image[0], width, height, size_mode)
        frames = round_frames(num_frames)
        reporter.note(area_advice(model, *size) or f"{size[0]}x{size[1]}, {frames} frames")
        end = None if end_frame is None else EndFrame(end_frame[0], add_frames_for_end_image)
        features = clip_features(clip_vision_output)
        condition = condition_on_image(
            model, image[0], *size, frames, reporter, end, vae_tile_size, features
        )
        return io.NodeOutput(condition)
