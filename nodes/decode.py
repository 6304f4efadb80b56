"""Latents to frames."""

from comfy_api.latest import io

from ..wan.decode.vae import decode_video
from . import compat
from .host import NodeReporter
from .sockets import WanLatent, WanModel


class WanLocalDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalDecode",
            display_name="Wan Decode",
            category="wan/5 decode",
            description="Turns sampled latents into frames.",
            search_aliases=["wan vae decode", "latent to image"],
            inputs=[
                WanModel.Input("model", tooltip="Gives the VAE."),
                WanLatent.Input("latents", tooltip="From Wan Sampler."),
            ],
            outputs=[
                io.Image.Output(
                    "frames",
                    display_name="frames",
                    tooltip="All frames of the video, for Create Video or any image node.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, latents):
        return io.NodeOutput(decode_video(model, latents, NodeReporter(cls, {"decode": 1})))
