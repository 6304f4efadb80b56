"""Prompt and first frame."""

from comfy_api.latest import io

from ..wan.encode.condition import condition_on_image, video_size
from ..wan.encode.prompt import encode_prompts
from ..wan.geometry import SIZE_STEP, round_frames
from ..wan.params import I2V_APP
from . import compat
from .host import NodeReporter
from .inputs import from_param
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
                from_param(I2V_APP["prompt"], multiline=True, default=""),
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
    def validate_inputs(cls, prompt):
        # A linked prompt is not known yet and comes as None.
        if prompt is not None and not prompt.strip():
            return "The prompt is empty. Write what happens in the video."
        return True

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
    def execute(cls, model, image, width, height, num_frames):
        reporter = NodeReporter(cls, {"encode image": 1, "encode first frame": 4})
        size = video_size(image[0], width, height)
        frames = round_frames(num_frames)
        reporter.note(f"{size[0]}x{size[1]}, {frames} frames")
        return io.NodeOutput(condition_on_image(model, image[0], *size, frames, reporter))
