"""Nodes that make a workflow an app: they name what goes in and what comes out."""

import shutil
from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import InputImpl, io, ui

from ..wan.errors import InputError
from ..wan.media.frames import to_pixels
from . import compat, host
from .preprocess import is_trimmed
from .service.app_params import FILE_KINDS, KINDS, AppInput, check_name, default_value

_CATEGORY = "wan/8 app"
DEFAULT_PREFIX = "app/result"


class WanLocalAppInput(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalAppInput",
            display_name="Wan App Input",
            category=_CATEGORY,
            description="Names an input of this workflow. Exported in API format into your "
            "workflow folder, the workflow becomes an app of the local service, and this one of "
            "its parameters. The value passes through.",
            search_aliases=["app parameter", "api input", "workflow input", "service"],
            inputs=[
                compat.make_input(
                    io.String.Input,
                    "name",
                    default="prompt",
                    tooltip="Name of the parameter: letters, digits and underscores.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "type",
                    options=list(KINDS),
                    default="text",
                    tooltip="What callers give. image, video and audio are files: the app puts a "
                    "loader in the place of what is connected to value.",
                ),
                compat.make_input(
                    io.String.Input,
                    "default",
                    default="",
                    multiline=True,
                    tooltip="Taken where a caller gives nothing, and here if nothing is connected "
                    "to value. Empty: what is connected to value; else text is empty, a number "
                    "must be given.",
                ),
                compat.make_input(
                    io.String.Input,
                    "minimum",
                    default="",
                    tooltip="Smallest number that is accepted; empty for any.",
                ),
                compat.make_input(
                    io.String.Input,
                    "maximum",
                    default="",
                    tooltip="Largest number that is accepted; empty for any.",
                ),
                compat.make_input(
                    io.String.Input,
                    "choices",
                    default="",
                    tooltip="For choice: the accepted texts, separated by commas.",
                ),
                compat.make_input(
                    io.String.Input,
                    "description",
                    default="",
                    tooltip="What the parameter does, for the app's schema.",
                ),
                io.AnyType.Input(
                    "value",
                    optional=True,
                    tooltip="Passes through when the workflow runs on this page.",
                ),
            ],
            outputs=[
                io.AnyType.Output(
                    "passed",
                    display_name="value",
                    tooltip="The caller's value; fits every input.",
                )
            ],
        )

    @classmethod
    def execute(cls, name, type, default, minimum, maximum, choices, description, value=None):
        if value is not None:
            return io.NodeOutput(value)
        if type in FILE_KINDS:
            raise InputError(
                what=f"Nothing is connected to value of the app input {name!r}.",
                why=f"Its type is {type}, for which there is no default text.",
                fix=f"Connect a node that loads the {type}; a caller's file takes its place.",
            )
        given = AppInput(name, type, default, minimum, maximum, choices, description)
        return io.NodeOutput(default_value(given))


class WanLocalAppOutput(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.Schema(
            node_id="WanLocalAppOutput",
            display_name="Wan App Output",
            category=_CATEGORY,
            description="Names a result of this workflow and writes it to a file: a video as mp4, "
            "a picture as PNG. For the app of the local service that the workflow becomes.",
            search_aliases=["app result", "api output", "workflow output", "service"],
            inputs=[
                compat.make_input(
                    io.String.Input,
                    "name",
                    default="video",
                    tooltip="Name of the result: letters, digits and underscores.",
                ),
                compat.make_input(
                    io.String.Input,
                    "filename_prefix",
                    default=DEFAULT_PREFIX,
                    tooltip="Name of the file below ComfyUI's output folder, perhaps after a "
                    "folder. The service puts each task's file into a folder of its own.",
                ),
                io.AnyType.Input(
                    "value",
                    tooltip="A video, from Create Video or Wan Save Video, or one picture.",
                ),
            ],
            outputs=[io.AnyType.Output("passed", display_name="value", tooltip="What came in.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, name, filename_prefix, value):
        check_name(name)
        if isinstance(value, torch.Tensor):
            saved = _save_picture(name, filename_prefix, value)
            return io.NodeOutput(value, ui={"images": [saved], "animated": (False,)})
        if not hasattr(value, "save_to"):
            raise InputError(
                what=f"The app output {name!r} got a value of type {type(value).__name__}.",
                why="It writes a video or a picture to a file.",
                fix="Connect Create Video, Wan Save Video's video, or an image.",
            )
        saved = _save_video(filename_prefix, value)
        return io.NodeOutput(value, ui=ui.PreviewVideo([saved]))


def _save_video(prefix, video):
    width, height = video.get_dimensions()
    folder, name, subfolder = host.output_place(prefix, width, height)
    source = None
    # A video made of frames has no file: asking for its stream would encode it.
    if not isinstance(video, InputImpl.VideoFromComponents) and not is_trimmed(video):
        source = video.get_stream_source()
    if isinstance(source, str):  # a finished file stays as it is, of whatever format
        path = folder / f"{name}{Path(source).suffix}"
        shutil.copyfile(source, path)
    else:
        path = folder / f"{name}.mp4"
        video.save_to(str(path))
    return ui.SavedResult(path.name, subfolder, io.FolderType.output)


def _save_picture(name, prefix, images):
    if images.ndim != 4 or images.shape[-1] not in (3, 4):
        raise InputError(
            what=f"The app output {name!r} got a tensor of shape {list(images.shape)}.",
            why="A picture has the shape [1, height, width, 3].",
            fix="Connect an image; Convert Mask to Image makes one of a mask.",
        )
    if len(images) != 1:
        raise InputError(
            what=f"The app output {name!r} got {len(images)} pictures.",
            why="One file comes out, and a PNG holds one picture.",
            fix="Put Create Video before it, or take one of them with ImageFromBatch.",
        )
    from PIL import Image

    pixels = np.asarray(to_pixels(images[0][..., :3]))
    folder, name, subfolder = host.output_place(prefix, images.shape[2], images.shape[1])
    path = folder / f"{name}.png"
    Image.fromarray(pixels).save(path)
    return ui.SavedResult(path.name, subfolder, io.FolderType.output)
