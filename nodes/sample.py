"""Sampling."""

from comfy_api.latest import io

from ..wan.params import I2V_APP
from ..wan.sample.denoise import SampleSettings, sample_video
from . import compat
from .host import NodeReporter
from .inputs import from_param, seed_input
from .sockets import WanCondition, WanLatent, WanModel, WanText


class WanLocalSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalSampler",
            display_name="Wan Sampler",
            category="wan/4 sample",
            description="Denoises a video, step by step, with live preview.",
            search_aliases=["wan ksampler", "denoise", "unipc", "dpm++"],
            inputs=[
                WanModel.Input("model", tooltip="The same model as in the nodes before."),
                WanText.Input("text", tooltip="From Wan Prompt Encode."),
                WanCondition.Input("condition", tooltip="From Wan Image to Video."),
                seed_input(),
                from_param(I2V_APP["num_inference_steps"]),
                from_param(I2V_APP["guidance_scale"]),
                from_param(I2V_APP["sample_solver"]),
                from_param(I2V_APP["shift"]),
            ],
            outputs=[
                WanLatent.Output(
                    "latents", display_name="latents", tooltip="The video, for Wan Decode."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model,
        text,
        condition,
        seed,
        num_inference_steps,
        guidance_scale,
        sample_solver,
        shift,
    ):
        settings = SampleSettings(num_inference_steps, guidance_scale, sample_solver, shift, seed)
        reporter = NodeReporter(cls, {"sample": 1})
        return io.NodeOutput(sample_video(model, text, condition, settings, reporter))
