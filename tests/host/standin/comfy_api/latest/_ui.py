"""What an output node tells the page: files it wrote, or text."""

from pathlib import Path

import folder_paths
import numpy as np
from PIL import Image

from ._types import FolderType


class SavedResult(dict):
    """One file, as the page asks for it with /view."""

    def __init__(self, filename, subfolder, type):
        super().__init__(filename=filename, subfolder=subfolder, type=FolderType(type).value)

    @property
    def filename(self):
        return self["filename"]

    @property
    def subfolder(self):
        return self["subfolder"]

    @property
    def type(self):
        return FolderType(self["type"])


class SavedImages:
    def __init__(self, results, is_animated=False):
        self.results = results
        self.is_animated = is_animated

    def as_dict(self):
        animated = {"animated": (True,)} if self.is_animated else {}
        return {"images": self.results, **animated}


class PreviewVideo:
    def __init__(self, values, **kwargs):
        self.values = values

    def as_dict(self):
        return {"images": self.values, "animated": (True,)}


class PreviewText:
    def __init__(self, value, **kwargs):
        self.value = value

    def as_dict(self):
        return {"text": (self.value,)}


def save_images(images, prefix, folder_type):
    """Write [B,H,W,C] as PNG files into the folder of that type (stand-in only)."""
    root = folder_paths.get_directory_by_type(folder_type.value)
    height, width = images.shape[1:3]
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, root, width, height
    )
    results = []
    for offset, image in enumerate(images):
        pixels = np.clip(image.cpu().numpy() * 255.0, 0, 255).astype(np.uint8)
        file = f"{name}_{counter + offset:05}_.png"
        Image.fromarray(pixels).save(Path(folder, file))
        results.append(SavedResult(file, subfolder, folder_type))
    return results


class PreviewImage:
    """Images for the page only: they go into the temp folder."""

    def __init__(self, image, animated=False, cls=None, **kwargs):
        self.values = save_images(image, "standin_preview", FolderType.temp)
        self.animated = animated

    def as_dict(self):
        return {"images": self.values, "animated": (self.animated,)}
