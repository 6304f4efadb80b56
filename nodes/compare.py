"""Looking at differences: two videos beside each other, and one setting at several values."""

from comfy_api.latest import io

from ..wan.media.compare import LAYOUTS, compare, grid
from ..wan.media.values import read_values
from . import compat
from .host_progress import NodeReporter
from .images import as_frames, to_image_of

CATEGORY = "wan/7 save"


class WanLocalCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalCompare",
            display_name="Wan Compare",
            category=CATEGORY,
            description="Puts two videos side by side, or one over the other with a wipe, to see "
            "what differs. The second takes the first one's size; the shorter stands still at its "
            "end.",
            search_aliases=["side by side", "wipe", "before after", "split screen"],
            inputs=[
                io.Image.Input("first", tooltip="Left, above, or left of the wipe."),
                io.Image.Input("second", tooltip="Right, below, or right of the wipe."),
                compat.make_input(
                    io.Combo.Input,
                    "layout",
                    options=list(LAYOUTS),
                    default=LAYOUTS[0],
                    tooltip="wipe: the first video left of a line, the second right of it. moving "
                    "wipe: the line goes from side to side.",
                ),
                compat.make_input(
                    io.Float.Input,
                    "position",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Of the line of a wipe: 0 = left, 1 = right.",
                ),
                compat.make_input(
                    io.String.Input,
                    "first_label",
                    default="",
                    tooltip="Written into the first video; empty for none.",
                ),
                compat.make_input(
                    io.String.Input,
                    "second_label",
                    default="",
                    tooltip="Written into the second video; empty for none.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "compared", display_name="frames", tooltip="Both videos, for Wan Save Video."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, first, second, layout, position, first_label, second_label):
        labels = first_label, second_label
        frames = compare(as_frames(first), as_frames(second), layout, position, labels)
        return io.NodeOutput(to_image_of(frames, NodeReporter(cls, {})))


class WanLocalValues(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalValues",
            display_name="Wan Values",
            category=CATEGORY,
            description="Gives one value after the other: every node behind it runs once for each. "
            "Connect it to an input of a node, for example shift of Wan Sampler, and gather the "
            "results with Wan Grid.",
            search_aliases=["xy plot", "grid", "list of values", "sweep"],
            inputs=[
                compat.make_input(
                    io.String.Input,
                    "values",
                    default="3, 5, 8",
                    multiline=True,
                    tooltip="Numbers or words, separated by commas, such as 3, 5, 8 or unipc, "
                    "dpm++; a range, such as 1 to 3 by 0.5; or one value a line, for prompts.",
                )
            ],
            outputs=[
                io.AnyType.Output(
                    "value",
                    display_name="value",
                    is_output_list=True,
                    tooltip="For the input to be tried, and for labels of Wan Grid.",
                )
            ],
        )

    @classmethod
    def execute(cls, values):
        return io.NodeOutput(read_values(values))


class WanLocalGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalGrid",
            display_name="Wan Grid",
            category=CATEGORY,
            description="Puts the videos that a list of values gave into one, in rows, each with "
            "its value, to choose by eye.",
            search_aliases=["xy plot", "contact sheet", "video grid"],
            is_input_list=True,
            inputs=[
                io.Image.Input("frames", tooltip="One video for each value."),
                io.AnyType.Input(
                    "labels", optional=True, tooltip="From Wan Values. Left out: no labels."
                ),
                compat.make_input(
                    io.String.Input,
                    "name",
                    default="",
                    tooltip="What the values are, for example shift; written before each.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "columns",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Videos in a row; 0 = about as many as rows.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "sheet", display_name="frames", tooltip="All videos, for Wan Save Video."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, frames, name, columns, labels=()):
        texts = [f"{name[0]} {label}".strip() for label in labels]
        sheet = grid([as_frames(video) for video in frames], texts, columns[0])
        return io.NodeOutput(to_image_of(sheet, NodeReporter(cls, {})))
