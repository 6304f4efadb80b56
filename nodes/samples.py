"""What comes with the pack to try things on."""

from pathlib import Path

from comfy_api.latest import InputImpl, io

from ..wan.media.picture import read_picture
from . import compat

ASSETS = Path(__file__).resolve().parents[1] / "assets"


class WanLocalSample(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalSample",
            display_name="Wan Sample",
            category="wan/1 load",
            description="A puppet that moves, and a character to be moved like it: drawn for this "
            "pack, to try character animation without files of your own.",
            search_aliases=["puppet", "example video", "demo"],
            inputs=[],
            outputs=[
                io.Image.Output(
                    "character", display_name="image", tooltip="The character, for Wan Animate."
                ),
                io.Video.Output(
                    "driving",
                    display_name="video",
                    tooltip="The driving video with sound, for Wan Read Driving Video.",
                ),
            ],
        )

    @classmethod
    def execute(cls):
        picture = read_picture(ASSETS / "character.png")
        return io.NodeOutput(picture[None], InputImpl.VideoFromFile(str(ASSETS / "puppet.mp4")))
