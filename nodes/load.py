"""Loading models."""

from comfy_api.latest import io

from ..wan.errors import MissingFileError, WanError
from ..wan.load.model import load_model
from ..wan.residency import Offload
from . import compat, host, host_memory
from .host_progress import NodeReporter
from .models import (
    AUTO,
    PRECISIONS,
    check_model,
    default_model,
    fetch_missing,
    find_model_files,
    listed,
)
from .sockets import WanModel


def _part_input(part, what, folder):
    return compat.make_input(
        io.Combo.Input,
        part,
        options=listed(part),
        default=AUTO,
        tooltip=f"{what}. auto: the one in the model's folder, or the only fitting file in "
        f"models/{folder}.",
    )


class WanLocalModelLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalModelLoader",
            display_name="Wan Model Loader",
            category="wan/1 load",
            description="Loads Wan weights with everything they need. What kind they are is read "
            "from the file.",
            search_aliases=["wan checkpoint", "load wan", "unet loader"],
            inputs=[
                compat.make_input(
                    io.Combo.Input,
                    "model",
                    options=listed("model"),
                    default=default_model(),
                    tooltip="A file in models/diffusion_models, a Diffusers folder in "
                    "models/diffusers, or a miniature for a try without a download.",
                ),
                _part_input("text_encoder", "UMT5-XXL", "text_encoders"),
                _part_input("vae", "The Wan 2.1 VAE", "vae"),
                _part_input("image_encoder", "CLIP ViT-H", "clip_vision"),
                compat.make_input(
                    io.Combo.Input,
                    "precision",
                    options=list(PRECISIONS),
                    default=AUTO,
                    tooltip="Precision to compute in. auto: bf16 on GPUs that have it, fp16 on "
                    "older ones, fp32 on the CPU. Weights have it too, unless the file is fp8 or "
                    "GGUF: those stay as small as they are.",
                    advanced=True,
                ),
                compat.make_input(
                    io.Combo.Input,
                    "offload",
                    options=[choice.value for choice in Offload],
                    default=Offload.AUTO.value,
                    optional=True,  # graphs saved before it was there have none
                    tooltip="blocks: the transformer's blocks stay in RAM and visit the GPU one "
                    "after the other, for the least GPU memory at nearly the same speed. off: it "
                    "is whole on the GPU while it works. auto: whole where it fits, else blocks.",
                    advanced=True,
                ),
                compat.make_input(
                    io.Boolean.Input,
                    "download",
                    default=False,
                    optional=True,
                    tooltip="Fetch the model and what stands at auto, where they are not there, from "
                    "Hugging Face into ComfyUI's model folders. They are large: 17 to 45 GB in "
                    "all. Off: nothing is ever fetched.",
                    advanced=True,
                ),
            ],
            outputs=[
                WanModel.Output(
                    "wan_model",
                    display_name="model",
                    tooltip="Transformer, VAE and encoders; read from disk when first used.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, model, download=False):
        # The host repeats the answer for every input named here, so it is one; the others are
        # looked at together when the node runs.
        try:
            if model is not None:  # a linked value is not known yet
                check_model(model, is_fetched=bool(download))
        except WanError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls, model, text_encoder, vae, image_encoder, precision, offload=AUTO, download=False
    ):
        try:
            files = find_model_files(model, text_encoder, vae, image_encoder)
        except MissingFileError:
            if not download:
                raise
            return "to be fetched"
        paths = (files.transformer, files.text_encoder, files.vae, files.image_encoder)
        return [*map(host.fingerprint, paths), precision, offload]

    @classmethod
    def execute(
        cls, model, text_encoder, vae, image_encoder, precision, offload=AUTO, download=False
    ):
        choices = (model, text_encoder, vae, image_encoder)
        if download:
            fetch_missing(*choices, NodeReporter(cls, {"download": 1}))
        placement = host_memory.placement(Offload(offload))
        files = find_model_files(*choices)
        return io.NodeOutput(load_model(files, placement, PRECISIONS[precision]))
