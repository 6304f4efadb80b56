"""Adding LoRAs to a model."""

from comfy_api.latest import io

from ..wan.errors import MissingFileError, WanError
from ..wan.load.lora.apply import apply_lora
from ..wan.load.lora.patch import read_lora_header
from ..wan.miniatures import MINI, Miniature
from . import compat, host
from .host_progress import NodeReporter
from .sockets import WanModel

NONE = "none found: put .safetensors files into models/loras and press R"


class WanLocalLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalLoRA",
            display_name="Wan LoRA",
            category="wan/1 load",
            description="Adds a LoRA to a model. Several of these nodes in a row add several LoRAs. "
            "How much of the file fits the model is shown under the node.",
            search_aliases=["load lora", "wan lora select", "lightx2v", "relight"],
            inputs=[
                WanModel.Input("model", tooltip="From Wan Model Loader, or from another Wan LoRA."),
                compat.make_input(
                    io.Combo.Input,
                    "lora",
                    options=lora_files() or [NONE],
                    tooltip="A LoRA for Wan 2.1 or 2.2 in models/loras, in any of the usual "
                    "spellings (kijai, lightx2v, musubi, Diffusers).",
                ),
                compat.make_input(
                    io.Float.Input,
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Of all its changes. 0 leaves the model exactly as it is; negative "
                    "turns the changes round.",
                ),
            ],
            outputs=[
                WanModel.Output(
                    "wan_model",
                    display_name="model",
                    tooltip="The model with the LoRA. The one that came in stays without it.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lora):
        try:
            if lora is not None:  # a linked value is not known yet
                read_lora_header(find_lora(lora))
        except WanError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lora, **_):
        path = None if lora is None else shipped_loras().get(lora) or host.model_path("loras", lora)
        return host.fingerprint(path)

    @classmethod
    def execute(cls, model, lora, strength):
        reporter = NodeReporter(cls, {})
        return io.NodeOutput(apply_lora(model, find_lora(lora), strength, reporter))


def lora_files():
    """What the drop-down offers: files of models/loras, of which some are of another type, and
    those that come with the miniature."""
    own = [name for name in host.model_files("loras") if name.endswith(".safetensors")]
    return [*own, *shipped_loras()]


def shipped_loras():
    """Paths of the miniature's LoRAs by their options in the drop-down."""
    files = (path for folder in Miniature(MINI).loras for path in sorted(folder.iterdir()))
    return {f"mini: {path.name}": path for path in files if path.suffix == ".safetensors"}


def find_lora(name):
    """Path of a file that the drop-down offers.

    Raises:
        MissingFileError: it is not there.
    """
    path = shipped_loras().get(name) or host.model_path("loras", name)
    if path is None:
        raise MissingFileError(
            what="No LoRA was chosen." if name == NONE else f"{name} is not in models/loras.",
            why="The node adds one to the model.",
            fix="Put the file into models/loras and press R, choose another one, or bypass the "
            "node.",
        )
    return path
