"""Latents to frames."""

from comfy_api.latest import io

from ..wan.decode.vae import decode_video
from ..wan.params import I2V_APP
from . import compat
from .host_progress import NodeReporter
from .inputs import from_param
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
                from_param(I2V_APP["vae_tile_size"]),
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
    def execute(cls, model, latents, vae_tile_size):
        reporter = NodeReporter(cls, {"decode": 1})
        return io.NodeOutput(decode_video(model, latents, reporter, tile_size=vae_tile_size))
