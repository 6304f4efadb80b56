"""Where models, inputs and outputs lie. `use_base_directory` moves all of it (stand-in only)."""

import atexit
import mimetypes
import os
import shutil
import tempfile
import time
from pathlib import Path

supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
folder_names_and_paths = {}

_FOLDERS = {  # key -> folders below models/
    "audio_encoders": ["audio_encoders"],
    "checkpoints": ["checkpoints"],
    "clip_vision": ["clip_vision"],
    "diffusers": ["diffusers"],
    "controlnet": ["controlnet"],
    "diffusion_models": ["unet", "diffusion_models"],
    "loras": ["loras"],
    "text_encoders": ["text_encoders", "clip"],
    "upscale_models": ["upscale_models"],
    "vae": ["vae"],
    "vae_approx": ["vae_approx"],
}
_OLD_NAMES = {"unet": "diffusion_models", "clip": "text_encoders"}


def use_base_directory(path):
    """Make `path` the base directory; model folders registered under the old one move along."""
    global base_path, models_dir
    old, base_path = base_path, str(path)
    models_dir = str(Path(base_path, "models"))
    for paths, _ in folder_names_and_paths.values():
        for index, folder in enumerate(paths):
            if Path(folder).is_relative_to(old):
                paths[index] = str(Path(base_path, Path(folder).relative_to(old)))
    for name in ("models", "input", "output", "temp", "user", "custom_nodes"):
        Path(base_path, name).mkdir(parents=True, exist_ok=True)


# A pack registers its folders when it is imported, before a test chose a directory.
base_path = tempfile.mkdtemp(prefix="standin_")
atexit.register(shutil.rmtree, base_path, ignore_errors=True)
use_base_directory(base_path)
for _key, _names in _FOLDERS.items():
    _paths = [str(Path(models_dir, name)) for name in _names]
    folder_names_and_paths[_key] = (_paths, set(supported_pt_extensions))
folder_names_and_paths["custom_nodes"] = ([str(Path(base_path, "custom_nodes"))], set())


def get_directory_by_type(type_name):
    known = type_name in ("input", "output", "temp")
    return str(Path(base_path, type_name)) if known else None


def get_input_directory():
    return get_directory_by_type("input")


def get_output_directory():
    return get_directory_by_type("output")


def get_temp_directory():
    return get_directory_by_type("temp")


def get_user_directory():
    return str(Path(base_path, "user"))


def filter_files_content_types(files, content_types):
    """The names whose type (image, video, audio) is one of `content_types`."""
    kinds = {name: (mimetypes.guess_type(name)[0] or "").split("/")[0] for name in files}
    return [name for name in files if kinds[name] in content_types]


def input_files(kind):
    """Sorted names of the input folder's files of one type (stand-in only)."""
    names = [path.name for path in Path(get_input_directory()).iterdir() if path.is_file()]
    return sorted(filter_files_content_types(names, [kind]))


def get_annotated_filepath(name, default_dir=None):
    """`name`, or `name [output]`, as a path. It may lead outside, as it may on 0.3.64."""
    for kind in ("input", "output", "temp"):
        if name.endswith(f"[{kind}]"):
            return str(Path(get_directory_by_type(kind), name.rpartition("[")[0].rstrip()))
    return str(Path(default_dir or get_input_directory(), name))


def exists_annotated_filepath(name):
    return Path(get_annotated_filepath(name)).exists()


def add_model_folder_path(folder_name, full_folder_path, is_default=False):
    """Add a folder; a key made this way has no extensions, which means every file."""
    folder_name = _OLD_NAMES.get(folder_name, folder_name)
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path in paths:
        paths.remove(full_folder_path)
    paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name):
    return list(folder_names_and_paths[_OLD_NAMES.get(folder_name, folder_name)][0])


def get_filename_list(folder_name):
    """Names below the key's folders, sub-folders included, sorted, each once."""
    paths, extensions = folder_names_and_paths[_OLD_NAMES.get(folder_name, folder_name)]
    found = set()
    for root in map(Path, paths):
        for file in root.rglob("*"):
            if file.is_file() and (not extensions or file.suffix.lower() in extensions):
                found.add(str(file.relative_to(root)))
    return sorted(found)


def get_full_path(folder_name, filename):
    """The first folder's file of that name, or None."""
    folder_name = _OLD_NAMES.get(folder_name, folder_name)
    for root in folder_names_and_paths.get(folder_name, ([], set()))[0]:
        # Normalised below a root, "../x" becomes "x": a model name never leaves its folder.
        path = Path(root, os.path.normpath(f"{os.sep}{filename}").lstrip(os.sep))
        if path.is_file():
            return str(path)
    return None


def get_full_path_or_raise(folder_name, filename):
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"no {filename!r} in the folders of {folder_name!r}")
    return path


def get_save_image_path(filename_prefix, output_dir, image_width=0, image_height=0):
    """(folder, name, next counter, subfolder, prefix); the folder is made when missing."""
    now = time.localtime()
    values = {"width": str(image_width), "height": str(image_height), "year": str(now.tm_year)}
    for name, number in zip(("month", "day", "hour", "minute", "second"), now[1:6], strict=True):
        values[name] = f"{number:02}"
    for name, text in values.items():
        filename_prefix = filename_prefix.replace(f"%{name}%", text)
    subfolder, name = os.path.split(os.path.normpath(filename_prefix))
    folder = Path(os.path.normpath(Path(output_dir, subfolder)))
    if not folder.is_relative_to(os.path.normpath(output_dir)):
        raise Exception(f"{filename_prefix!r} leads outside the output folder")
    folder.mkdir(parents=True, exist_ok=True)
    used = [0]
    for file in folder.iterdir():
        if file.name.startswith(f"{name}_"):
            digits = file.name[len(name) + 1 :].split("_")[0]
            used += [int(digits)] if digits.isdecimal() else []
    return str(folder), name, max(used) + 1, subfolder, filename_prefix
