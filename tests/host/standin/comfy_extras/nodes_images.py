"""LoadImage, SaveImage and PreviewImage."""

from pathlib import Path

import folder_paths
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image, ImageOps

from . import CoreNode


class LoadImage(CoreNode):
    @classmethod
    def define_schema(cls):
        images = folder_paths.input_files("image")
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            inputs=[io.Combo.Input("image", options=images, upload=io.UploadType.image)],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def validate_inputs(cls, image):
        exists = folder_paths.exists_annotated_filepath(image)
        return True if exists else f"Invalid image file: {image}"

    @classmethod
    def fingerprint_inputs(cls, image):
        return Path(folder_paths.get_annotated_filepath(image)).stat().st_mtime

    @classmethod
    def execute(cls, image):
        with Image.open(folder_paths.get_annotated_filepath(image)) as opened:
            upright = ImageOps.exif_transpose(opened)
            pixels = np.asarray(upright.convert("RGB"), dtype=np.float32) / 255.0
            mask = np.zeros((64, 64), dtype=np.float32)  # the host's size for "no alpha"
            if upright.has_transparency_data:
                alpha = upright.convert("RGBA").getchannel("A")
                mask = 1.0 - np.asarray(alpha, dtype=np.float32) / 255.0
        return io.NodeOutput(torch.from_numpy(pixels)[None], torch.from_numpy(mask)[None])


class SaveImage(CoreNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaveImage",
            display_name="Save Image",
            category="image",
            inputs=[
                io.Image.Input("images"),
                io.String.Input("filename_prefix", default="ComfyUI"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images, filename_prefix):
        saved = ui.save_images(images, filename_prefix, io.FolderType.output)
        return io.NodeOutput(ui=ui.SavedImages(saved))


class PreviewImage(CoreNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            inputs=[io.Image.Input("images")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images):
        saved = ui.save_images(images, "standin_preview", io.FolderType.temp)
        return io.NodeOutput(ui=ui.SavedImages(saved))


NODES = [LoadImage, SaveImage, PreviewImage]
