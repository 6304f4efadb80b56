"""CreateVideo, SaveVideo, LoadVideo and GetVideoComponents."""

from fractions import Fraction
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import InputImpl, Types, io, ui

from . import CoreNode


class CreateVideo(CoreNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CreateVideo",
            display_name="Create Video",
            category="image/video",
            inputs=[
                io.Image.Input("images"),
                io.Float.Input("fps", default=30.0, min=1.0, max=120.0, step=1.0),
                io.Audio.Input("audio", optional=True),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, images, fps, audio=None):
        parts = Types.VideoComponents(images=images, audio=audio, frame_rate=Fraction(fps))
        return io.NodeOutput(InputImpl.VideoFromComponents(parts))


class SaveVideo(CoreNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaveVideo",
            display_name="Save Video",
            category="image/video",
            inputs=[
                io.Video.Input("video"),
                io.String.Input("filename_prefix", default="video/ComfyUI"),
                io.Combo.Input("format", options=Types.VideoContainer.as_input(), default="auto"),
                io.Combo.Input("codec", options=Types.VideoCodec.as_input(), default="auto"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video, filename_prefix, format, codec):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), *video.get_dimensions()
        )
        file = f"{name}_{counter:05}_.{Types.VideoContainer.get_extension(format)}"
        video.save_to(str(Path(folder, file)), format=format, codec=codec, metadata=cls._metadata())
        saved = ui.SavedResult(file, subfolder, io.FolderType.output)
        return io.NodeOutput(ui=ui.PreviewVideo([saved]))

    @classmethod
    def _metadata(cls):
        if args.disable_metadata:
            return None
        found = dict(cls.hidden.extra_pnginfo or {})
        if cls.hidden.prompt is not None:
            found["prompt"] = cls.hidden.prompt
        return found or None


class GetVideoComponents(CoreNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GetVideoComponents",
            display_name="Get Video Components",
            category="image/video",
            inputs=[io.Video.Input("video")],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Audio.Output(display_name="audio"),
                io.Float.Output(display_name="fps"),
            ],
        )

    @classmethod
    def execute(cls, video):
        parts = video.get_components()
        return io.NodeOutput(parts.images, parts.audio, float(parts.frame_rate))


class LoadVideo(CoreNode):
    @classmethod
    def define_schema(cls):
        videos = folder_paths.input_files("video")
        return io.Schema(
            node_id="LoadVideo",
            display_name="Load Video",
            category="image/video",
            inputs=[io.Combo.Input("file", options=videos, upload=io.UploadType.video)],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def validate_inputs(cls, file):
        exists = folder_paths.exists_annotated_filepath(file)
        return True if exists else f"Invalid video file: {file}"

    @classmethod
    def fingerprint_inputs(cls, file):
        return Path(folder_paths.get_annotated_filepath(file)).stat().st_mtime

    @classmethod
    def execute(cls, file):
        return io.NodeOutput(InputImpl.VideoFromFile(folder_paths.get_annotated_filepath(file)))


NODES = [CreateVideo, SaveVideo, GetVideoComponents, LoadVideo]
