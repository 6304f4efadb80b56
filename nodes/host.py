"""The door to ComfyUI's folders and options."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import folder_paths
import torch
from comfy.cli_args import args

from ..wan.errors import OutputError

_LARGE_IMAGE = 4_000_000_000  # bytes


def model_files(key: str) -> list[str]:
    """Names of the files ComfyUI lists under a folder key; sub-folders with forward slashes."""
    return [name.replace("\\", "/") for name in folder_paths.get_filename_list(key)]


def model_path(key: str, name: str) -> Path | None:
    """Path of a listed file, or None. Accepts names that were saved on Windows."""
    for spelling in (name, name.replace("\\", "/"), name.replace("/", "\\")):
        if spelling in folder_paths.get_filename_list(key):
            return Path(folder_paths.get_full_path(key, spelling))
    return None


def folders_of(key: str) -> list[Path]:
    """Where ComfyUI looks for the files of a folder key."""
    return [Path(path) for path in folder_paths.get_folder_paths(key)]


def folders_if_known(key: str) -> list[Path]:
    """Folders of a key that another pack may have made; none if it has not."""
    known = folder_paths.folder_names_and_paths
    return [Path(path) for path in known[key][0]] if key in known else []


def model_folders() -> dict[str, Path]:
    """Folders in Diffusers layout under ComfyUI's `diffusers` folder, by name."""
    found = {}
    for root in folder_paths.get_folder_paths("diffusers"):
        for index in sorted(Path(root).glob("*/model_index.json")):
            found.setdefault(index.parent.name, index.parent)
    return found


def own_folders(
    key: str, names: set[str], like: str = "", suffix: str = "", more: Iterable[Path] = ()
) -> list[Path]:
    """Folders of a key of our own, which is made, or completed, at each call.

    Args:
        key: kept as the user or another pack filled it; our folders come after theirs.
        names: folders below ComfyUI's models folder.
        like: another key whose folders are taken too.
        suffix: the only type of file to list, for example ".onnx"; empty for all.
        more: other folders.
    """
    known = folder_paths.folder_names_and_paths
    paths = known[key][0] if key in known else []
    wanted = [str(Path(folder_paths.models_dir, name)) for name in sorted(names)]
    wanted += known[like][0] if like in known else []
    wanted += map(str, more)
    paths += [path for path in dict.fromkeys(wanted) if path not in paths]
    known[key] = (paths, {suffix} if suffix else set())
    return [Path(path) for path in paths]


def pack_folders(names: Iterable[str]) -> list[Path]:
    """Folders of another pack, by the names it may be installed under; those that exist."""
    roots = folder_paths.get_folder_paths("custom_nodes")
    return [path for name in names for root in roots if (path := Path(root, name)).is_dir()]


def kept_folder() -> Path:
    """Where finished clips of a long video outlive an interruption or a crash."""
    return Path(folder_paths.get_user_directory(), "wan_local", "clips")


def temporary_folder() -> Path:
    """Where files of one run go; the host empties it when it starts."""
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def image_memory(count: int, height: int, width: int) -> torch.Tensor:
    """Room for the frames of an image, [count, height, width, 3] float32, not set.

    Of a long video they are in a file that is mapped into memory, so that the system can move
    them out of it.
    """
    shape, size = (count, height, width, 3), count * height * width * 3
    if 4 * size < _LARGE_IMAGE:
        return torch.empty(shape)
    file = temporary_folder() / f"wan-frames-{uuid4().hex}.bin"
    image = torch.from_file(str(file), shared=True, size=size, dtype=torch.float32)
    with suppress(OSError):  # Windows keeps a file that is in use; the host deletes it later
        file.unlink()
    return image.view(shape)


def output_place(prefix: str, width: int = 0, height: int = 0) -> tuple[Path, str, str]:
    """Where the next file of a prefix goes; the folder is made.

    Args:
        prefix: a name below the output folder, perhaps with folders, %year% and the like, %width%
            and %height%.
    Returns:
        The folder, the name with its number but without a suffix, and the folder as the page
        asks for it.
    Raises:
        OutputError: it is empty or leads outside, or the folder cannot be made.
    """
    root = folder_paths.get_output_directory()
    try:
        place = folder_paths.get_save_image_path(prefix, root, width, height)
    except OSError as error:
        raise _bad_prefix(prefix, f"Its folder cannot be made ({error.strerror}).") from error
    except Exception as error:  # the host has no class of its own for it
        raise _bad_prefix(prefix, "It leads outside of ComfyUI's output folder.") from error
    folder, name, number, subfolder, _ = place
    if name in ("", "."):
        raise _bad_prefix(prefix, "It holds no name.")
    return Path(folder), f"{name}_{number:05}_", subfolder


def _bad_prefix(prefix: str, why: str) -> OutputError:
    return OutputError(
        what=f"filename_prefix {prefix!r} cannot be used.",
        why=why,
        fix="Use a name or folder/name; it is made below ComfyUI's output folder.",
    )


def embeds_metadata() -> bool:
    """Whether files tell how they were made; the user may have switched it off."""
    return not args.disable_metadata


def fingerprint(path: Path | None) -> str:
    """Changes when the file does."""
    if path is None or not path.exists():
        return "missing"
    stat = path.stat()
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"
