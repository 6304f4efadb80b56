"""Input and output types: `io.Int.Input(...)`, `io.Image.Output(...)`, `io.Custom("X")`."""

from enum import Enum
from typing import Any

import torch


class FolderType(str, Enum):
    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


def given(**options):
    """The options that were set; the host leaves unset ones out of /object_info."""
    return {key: value for key, value in options.items() if value is not None}


class Input:
    """A socket of a node, without a widget."""

    io_type = "*"

    def __init__(
        self, id, display_name=None, optional=False, tooltip=None, lazy=None, extra_dict=None
    ):
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy
        self.extra_dict = extra_dict or {}

    def get_io_type(self):
        return self.io_type

    def as_dict(self):
        plain = given(display_name=self.display_name, tooltip=self.tooltip, lazy=self.lazy)
        return {**plain, **given(**self.extra_dict)}


class WidgetInput(Input):
    """A socket that is also a widget with a default."""

    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        socketless=None,
        widget_type=None,
        force_input=None,
        extra_dict=None,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict)
        self.default = default
        self.socketless = socketless
        self.widget_type = widget_type
        self.force_input = force_input

    def get_io_type(self):
        return self.widget_type or super().get_io_type()

    def as_dict(self):
        return super().as_dict() | given(
            default=self.default,
            socketless=self.socketless,
            widgetType=self.widget_type,
            forceInput=self.force_input,
        )


class Output:
    """A socket a node gives values through."""

    io_type = "*"

    def __init__(self, id=None, display_name=None, tooltip=None, is_output_list=False):
        self.id = id
        self.display_name = display_name
        self.tooltip = tooltip
        self.is_output_list = is_output_list

    def get_io_type(self):
        return self.io_type

    def as_dict(self):
        named = given(display_name=self.display_name, tooltip=self.tooltip)
        return {**named, "is_output_list": self.is_output_list}


class ComfyTypeIO:
    """Base of every type; a subclass gets Input and Output classes that carry its name."""

    io_type = "*"
    Type: Any = Any
    Input = Input
    Output = Output

    def __init_subclass__(cls, io_type="*", **kwargs):
        super().__init_subclass__(**kwargs)
        cls.io_type = io_type
        cls.Input = type("Input", (cls.Input,), {"io_type": io_type, "Parent": cls})
        cls.Output = type("Output", (cls.Output,), {"io_type": io_type, "Parent": cls})


def Custom(io_type):
    """A type of the pack's own; two calls with one name are the same type on the wire."""

    class CustomComfyType(ComfyTypeIO, io_type=io_type):
        pass

    return CustomComfyType


class _Flag(WidgetInput):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        label_on=None,
        label_off=None,
        socketless=None,
        force_input=None,
    ):
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, force_input
        )
        self.label_on = label_on
        self.label_off = label_off

    def as_dict(self):
        return super().as_dict() | given(label_on=self.label_on, label_off=self.label_off)


class Boolean(ComfyTypeIO, io_type="BOOLEAN"):
    Type = bool
    Input = _Flag


class _Number(WidgetInput):
    """The common part of Int and Float; `extra` is the one option they do not share."""

    def __init__(self, id, common, limits, extra, display_mode, socketless, force_input):
        display_name, optional, tooltip, lazy, default = common
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, force_input
        )
        self.min, self.max, self.step = limits
        self.display_mode = display_mode
        self._extra = extra

    def as_dict(self):
        display = self.display_mode.value if self.display_mode else None
        return super().as_dict() | given(
            min=self.min, max=self.max, step=self.step, display=display, **self._extra
        )


class _Int(_Number):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        min=None,
        max=None,
        step=None,
        control_after_generate=None,
        display_mode=None,
        socketless=None,
        force_input=None,
    ):
        common = (display_name, optional, tooltip, lazy, default)
        extra = {"control_after_generate": control_after_generate}
        super().__init__(id, common, (min, max, step), extra, display_mode, socketless, force_input)
        self.control_after_generate = control_after_generate


class Int(ComfyTypeIO, io_type="INT"):
    Type = int
    Input = _Int


class _Float(_Number):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        min=None,
        max=None,
        step=None,
        round=None,
        display_mode=None,
        socketless=None,
        force_input=None,
    ):
        common = (display_name, optional, tooltip, lazy, default)
        super().__init__(
            id, common, (min, max, step), {"round": round}, display_mode, socketless, force_input
        )
        self.round = round


class Float(ComfyTypeIO, io_type="FLOAT"):
    Type = float
    Input = _Float


class _Text(WidgetInput):
    def __init__(
        self,
        id,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        multiline=False,
        placeholder=None,
        default=None,
        dynamic_prompts=None,
        socketless=None,
        force_input=None,
    ):
        super().__init__(
            id, display_name, optional, tooltip, lazy, default, socketless, None, force_input
        )
        self.multiline = multiline
        self.placeholder = placeholder
        self.dynamic_prompts = dynamic_prompts

    def as_dict(self):
        return super().as_dict() | given(
            multiline=self.multiline,
            placeholder=self.placeholder,
            dynamicPrompts=self.dynamic_prompts,
        )


class String(ComfyTypeIO, io_type="STRING"):
    Type = str
    Input = _Text


class _Choice(WidgetInput):
    def __init__(
        self,
        id,
        options=None,
        display_name=None,
        optional=False,
        tooltip=None,
        lazy=None,
        default=None,
        control_after_generate=None,
        upload=None,
        image_folder=None,
        remote=None,
        socketless=None,
    ):
        if isinstance(options, type) and issubclass(options, Enum):
            options = [member.value for member in options]
        if isinstance(default, Enum):
            default = default.value
        super().__init__(id, display_name, optional, tooltip, lazy, default, socketless)
        self.options = options
        self.control_after_generate = control_after_generate
        self.upload = upload
        self.image_folder = image_folder
        self.remote = remote

    def as_dict(self):
        found = super().as_dict() | given(
            options=self.options, control_after_generate=self.control_after_generate
        )
        if self.upload is not None:
            found[self.upload.value] = True
        if self.image_folder is not None:
            found["image_folder"] = self.image_folder.value
        return {**found, "multiselect": False}


class _ChoiceOutput(Output):
    """A combo goes out with its list of options as the type."""

    def __init__(
        self, id=None, display_name=None, options=None, tooltip=None, is_output_list=False
    ):
        super().__init__(id, display_name, tooltip, is_output_list)
        self.io_type = list(options or [])


class Combo(ComfyTypeIO, io_type="COMBO"):
    Type = str
    Input = _Choice
    Output = _ChoiceOutput


class Image(ComfyTypeIO, io_type="IMAGE"):
    Type = torch.Tensor


class Mask(ComfyTypeIO, io_type="MASK"):
    Type = torch.Tensor


class Latent(ComfyTypeIO, io_type="LATENT"):
    Type = dict


class Conditioning(ComfyTypeIO, io_type="CONDITIONING"):
    Type = list


class Audio(ComfyTypeIO, io_type="AUDIO"):
    Type = dict


class Video(ComfyTypeIO, io_type="VIDEO"):
    pass


class AnyType(ComfyTypeIO, io_type="*"):
    pass


Sigmas = Custom("SIGMAS")
Sampler = Custom("SAMPLER")
Noise = Custom("NOISE")
Guider = Custom("GUIDER")
Clip = Custom("CLIP")
Vae = Custom("VAE")
Model = Custom("MODEL")
ClipVision = Custom("CLIP_VISION")
ClipVisionOutput = Custom("CLIP_VISION_OUTPUT")
LoraModel = Custom("LORA_MODEL")
UpscaleModel = Custom("UPSCALE_MODEL")
BBOX = Custom("BBOX")
