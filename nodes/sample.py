"""Sampling."""

from dataclasses import replace

from comfy_api.latest import io

from ..wan.params import I2V_APP
from ..wan.sample.settings import PLAIN_GUIDANCE, PLAIN_OPTIONS, SampleSettings
from ..wan.sample.video import sample_video
from . import compat
from .host_progress import NodeReporter
from .inputs import from_param, seed_input
from .sockets import WanCache, WanCondition, WanGuidance, WanLatent, WanModel, WanOptions, WanText


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
                WanCache.Input(
                    "cache",
                    optional=True,
                    tooltip="From Wan TeaCache or Wan MagCache. Left out: every step is computed.",
                ),
                WanGuidance.Input(
                    "guidance",
                    optional=True,
                    tooltip="From Wan Guidance Options. Left out: plain guidance.",
                ),
                WanOptions.Input(
                    "options",
                    optional=True,
                    tooltip="From Wan Sampling Options. Left out: no RIFLEx, sdpa attention.",
                ),
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
        cache=None,
        guidance=PLAIN_GUIDANCE,
        options=PLAIN_OPTIONS,
    ):
        settings = SampleSettings(
            steps=num_inference_steps,
            guidance=replace(guidance, scale=guidance_scale),
            solver=sample_solver,
            shift=shift,
            seed=seed,
            cache=cache,
            options=options,
        )
        reporter = NodeReporter(cls, {"sample": 1})
        return io.NodeOutput(sample_video(model, text, condition, settings, reporter))
