"""Bridges from ComfyUI's own loaders, for who has their models loaded already."""

from comfy_api.latest import io

from ..wan.encode.given import given_texts
from ..wan.load.borrow import borrow_vae
from . import compat
from .sockets import WanModel, WanText

CATEGORY = "wan/2 encode"


class WanLocalTextFromConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalTextFromConditioning",
            display_name="Wan Text from Conditioning",
            category=CATEGORY,
            description="Takes prompts that ComfyUI's CLIP Text Encode has encoded, in place of "
            "Wan Prompt Encode, so that the text encoder is loaded once.",
            search_aliases=["conditioning to wan text", "clip text encode bridge"],
            inputs=[
                WanModel.Input("model", tooltip="From Wan Model Loader."),
                io.Conditioning.Input(
                    "positive", tooltip="From CLIP Text Encode, with a CLIP of the type wan."
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="Likewise. Needed where guidance is above 1.",
                ),
            ],
            outputs=[
                WanText.Output(
                    "text", display_name="text", tooltip="Both prompts, for Wan Sampler."
                )
            ],
        )

    @classmethod
    def execute(cls, model, positive, negative=None):
        return io.NodeOutput(given_texts(model, _encoded(positive), _encoded(negative)))


def _encoded(conditioning):
    if not conditioning:
        return None
    features, more = conditioning[0]
    return features, more.get("attention_mask")


class WanLocalUseVae(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalUseVae",
            display_name="Wan Use VAE",
            category="wan/1 load",
            description="Gives a model the VAE that ComfyUI's Load VAE has loaded, in place of the "
            "one that Wan Model Loader found.",
            search_aliases=["vae bridge", "load vae", "other vae"],
            inputs=[
                WanModel.Input("model", tooltip="From Wan Model Loader."),
                io.Vae.Input("vae", tooltip="The Wan 2.1 VAE, from Load VAE."),
            ],
            outputs=[
                WanModel.Output(
                    "wan_model",
                    display_name="model",
                    tooltip="The model with that VAE. The one that came in keeps its own.",
                )
            ],
        )

    @classmethod
    def execute(cls, model, vae):
        return io.NodeOutput(borrow_vae(model, vae.first_stage_model.state_dict()))
