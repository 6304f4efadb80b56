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
            description="A puppet that moves, a character to be moved like it, and a scene to be "
            "continued: drawn for this pack, to try it without files of your own.",
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
                io.Image.Output(
                    "scene",
                    display_name="scene",
                    tooltip="The first frame of a scene that the miniature knows how to continue, "
                    "for Wan Image to Video.",
                ),
            ],
        )

    @classmethod
    def execute(cls):
        character, scene = (read_picture(ASSETS / f"{n}.png")[None] for n in ("character", "scene"))
        video = InputImpl.VideoFromFile(str(ASSETS / "puppet.mp4"))
        return io.NodeOutput(character, video, scene)
