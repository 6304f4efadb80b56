"""Images to a video file."""

from comfy_api.latest import InputImpl, io, ui

from ..wan.errors import WanError
from ..wan.media.formats import (
    ODD_SIZES,
    PRESETS,
    QUALITIES,
    Encoding,
    find_format,
    offered_formats,
)
from ..wan.save.metadata import graph_tags
from ..wan.save.video import check_writable, write_video
from . import compat, host
from .host_progress import NodeReporter
from .sockets import from_audio

NO_CRF = -1


class WanLocalSaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        formats = [form.name for form in offered_formats()]
        return compat.Schema(
            node_id="WanLocalSaveVideo",
            display_name="Wan Save Video",
            category="wan/7 save",
            description="Writes images and sound to a video file below ComfyUI's output folder. "
            "Frames go to the file one at a time, so that a long video takes no more memory than "
            "its images. The file holds its graph: drop an mp4 or webm on the page to get it back.",
            search_aliases=["save mp4", "export video", "video combine", "images to video", "webm"],
            inputs=[
                io.Image.Input("images", tooltip="The frames. An alpha channel is dropped."),
                compat.make_input(
                    io.Float.Input,
                    "fps",
                    default=16.0,
                    min=0.1,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames per second. 16 is Wan's own; a linked 29.97002997 is kept as "
                    "30000/1001 exactly.",
                ),
                compat.make_input(
                    io.String.Input,
                    "filename_prefix",
                    default="video/Wan",
                    tooltip="Name of the file, perhaps after a folder; a number is added. Knows "
                    "%year%, %month%, %day%, %hour%, %minute%, %second%, %width% and %height%.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "format",
                    options=formats,
                    default=formats[0],
                    tooltip="H.264 plays everywhere. AV1 and VP9 are smaller and slower. Lossless "
                    "formats keep every pixel and any size, for further work: VLC and mpv play "
                    "them, browsers mostly do not. Sound is AAC in mp4, Opus in webm, FLAC in mkv.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "quality",
                    options=list(QUALITIES),
                    default="high",
                    tooltip="The same word looks alike in every lossy format. high: no loss is "
                    "seen in most videos. Lossless formats do not need it.",
                ),
                compat.make_input(
                    io.Combo.Input,
                    "preset",
                    options=list(PRESETS),
                    default="medium",
                    tooltip="How long the encoder may take to make the file smaller.",
                ),
                compat.make_input(
                    io.Int.Input,
                    "crf",
                    default=NO_CRF,
                    min=NO_CRF,
                    max=63,
                    tooltip="The encoder's own rate factor in place of quality: 0 (best) to 51 for "
                    "H.264, to 63 for AV1 and VP9. -1 leaves it to quality.",
                    advanced=True,
                ),
                compat.make_input(
                    io.Combo.Input,
                    "odd_size",
                    options=list(ODD_SIZES),
                    default=ODD_SIZES[0],
                    tooltip="H.264, AV1 and VP9 need even sides. refuse: an odd one is an error. "
                    "crop: it loses its last row or column of pixels.",
                    advanced=True,
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound from the first frame on; cut where the frames end.",
                ),
            ],
            outputs=[
                io.Video.Output("video", display_name="video", tooltip="The written file."),
                io.String.Output("path", display_name="path", tooltip="Where it is."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix, format, crf):
        # Three inputs, though the host repeats the answer for each: what stands in the way of a
        # file should be known before the hours in which its frames are made.
        try:
            form = offered_formats()[0] if format is None else find_format(format)
            Encoding(form, crf=cls._factor(crf))
            if filename_prefix is not None:  # a linked value is not known yet
                folder, name, _ = host.output_place(filename_prefix)
                check_writable(folder / f"{name}{form.suffix}")
        except WanError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        images,
        fps,
        filename_prefix,
        format,
        quality,
        preset,
        crf,
        odd_size,
        audio=None,
    ):
        form = find_format(format)
        encoding = Encoding(form, quality, preset, cls._factor(crf), odd_size)
        height, width = images.shape[1:3]
        folder, name, subfolder = host.output_place(filename_prefix, width, height)
        path = folder / f"{name}{form.suffix}"
        write_video(
            path,
            [images],
            fps,
            encoding,
            audio=from_audio(audio),
            tags=cls._tags(),
            reporter=NodeReporter(cls, {"save video": 1}),
            expected=len(images),
        )
        saved = ui.SavedResult(path.name, subfolder, io.FolderType.output)
        video = InputImpl.VideoFromFile(str(path))
        return io.NodeOutput(video, str(path), ui=ui.PreviewVideo([saved]))

    @classmethod
    def _factor(cls, crf):
        return None if crf is None or crf == NO_CRF else crf

    @classmethod
    def _tags(cls):
        hidden = cls.hidden
        if hidden is None or not host.embeds_metadata():
            return None
        return graph_tags(hidden.prompt, hidden.extra_pnginfo, hidden.unique_id)
