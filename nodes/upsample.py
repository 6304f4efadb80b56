"""More frames and more pixels, for any images."""

from comfy_api.latest import io

from ..wan.errors import WanError
from ..wan.upsample.lanczos import resize
from ..wan.upsample.rife.interpolate import FACTORS, interpolate
from . import compat
from .host_progress import NodeReporter
from .rife_files import check_choice, fingerprint, load_choice, rife_choices
from .sockets import WanRife

CATEGORY = "wan/6 upsample"
# At what size motion is measured, by what the widget says.
SCALES = {"auto": None, "1.0": 1.0, "0.5": 0.5}


class WanLocalRifeLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        names = rife_choices()
        return compat.Schema(
            node_id="WanLocalRifeLoader",
            display_name="Wan RIFE Loader",
            category="wan/1 load",
            description="Opens a RIFE network, which makes frames between frames. The version is "
            "read from the file: 4.7 to 4.26, their lite and heavy ones, and v3 HD.",
            search_aliases=["rife", "frame interpolation", "vfi", "flownet"],
            inputs=[
                compat.make_input(
                    io.Combo.Input,
                    "rife_name",
                    options=names,
                    default=names[0],
                    tooltip="A file in models/frame_interpolation, models/rife or the folder of "
                    "ComfyUI-Frame-Interpolation, for example rife_v4.26.safetensors. tiny needs "
                    "no download and knows nothing.",
                )
            ],
            outputs=[
                WanRife.Output(
                    "rife",
                    display_name="rife",
                    tooltip="For Wan RIFE Interpolate; read from disk when first used.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, rife_name):
        try:
            if rife_name is not None:  # a linked value is not known yet
                check_choice(rife_name)
        except WanError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, rife_name):
        return fingerprint(rife_name)

    @classmethod
    def execute(cls, rife_name):
        return io.NodeOutput(load_choice(rife_name))


class WanLocalRifeInterpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalRifeInterpolate",
            display_name="Wan RIFE Interpolate",
            category=CATEGORY,
            description="Makes frames between frames, so that a video runs smoother and lasts as "
            "long as before. The frames given stay as they are; nothing is blended across a cut.",
            search_aliases=["frame interpolation", "smooth video", "double fps", "rife", "vfi"],
            inputs=[
                WanRife.Input("rife", tooltip="From Wan RIFE Loader."),
                io.Image.Input("frames", tooltip="Frames of one video, of any size."),
                compat.make_input(
                    io.Int.Input,
                    "factor",
                    default=2,
                    min=FACTORS[0],
                    max=FACTORS[-1],
                    tooltip="Frames per frame: 81 become 161 at 2. RIFE v3 takes 2, 4 and 8.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "fps",
                    default=16.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="Frames per second of the frames given. Changes only the fps that "
                    "comes out.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "motion_scale",
                    options=list(SCALES),
                    default="auto",
                    tooltip="Size at which motion is measured: auto takes 0.5 for 4K and 1.0 "
                    "below. 0.5 follows larger movements, and misses smaller ones.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Image.Output(
                    "all_frames", display_name="frames", tooltip="(frames - 1) x factor + 1 frames."
                ),
                io.Float.Output(
                    "new_fps",
                    display_name="fps",
                    tooltip="fps times factor, for Create Video: the video lasts as long as "
                    "before.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, rife, frames, factor, fps, motion_scale):
        reporter = NodeReporter(cls, {"interpolate": 1})
        result = interpolate(frames, rife, factor, reporter, SCALES[motion_scale])
        return io.NodeOutput(result, fps * factor)


class WanLocalLanczosResize(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalLanczosResize",
            display_name="Wan Lanczos Resize",
            category=CATEGORY,
            description="Enlarges images by a factor, or makes them smaller, with Pillow's Lanczos "
            "filter. Uses all cores, and holds the result once.",
            search_aliases=["upscale video", "scale image", "resize frames", "lanczos"],
            inputs=[
                io.Image.Input("frames", tooltip="Images of one size."),
                compat.make_input(
                    io.Float.Input,
                    "factor",
                    default=2.0,
                    min=0.01,
                    max=16.0,
                    step=0.05,
                    tooltip="Both sides are multiplied by it and cut off to whole pixels; below 1 "
                    "makes smaller. H.264 needs even sides: 1.5 and 2 keep those of Wan even.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "resized", display_name="frames", tooltip="As many images, of the new size."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, frames, factor):
        return io.NodeOutput(resize(frames, factor, NodeReporter(cls, {"resize": 1})))
