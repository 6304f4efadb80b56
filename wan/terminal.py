"""The command line's side of a run: progress bars, and models by a folder's name."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

import torch

from .errors import InputError
from .payloads import Variant, WanModel
from .progress import Preview
from .residency import DevicePlacement

_VARIANTS = {"wan2-1-i2v": (Variant.I2V, Variant.FLF2V), "wan-2-2-animate-v2v": (Variant.ANIMATE,)}


class TerminalReporter:
    """Shows each phase as a bar on stderr, notes as lines; Ctrl-C cancels by itself."""

    def __init__(self) -> None:
        self._bar = None

    def __enter__(self) -> TerminalReporter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, phase: str, total: int) -> None:
        """Close the bar before and open one."""
        from tqdm import tqdm

        if self._bar is not None:
            self._bar.close()
        self._bar = tqdm(total=total, desc=f"{phase:>18}", file=sys.stderr, unit="")

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def check_cancelled(self) -> None:
        """Nothing to ask: an interrupt arrives as an exception."""

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)


def open_models(models: str, device: str, app: str) -> WanModel:
    """The model of an app, from a folder or the tiny set.

    Args:
        models: "tiny", or a folder of weights.
        device: "auto" or a torch device.
        app: name of the app, which decides the kind of weights.
    Raises:
        InputError: no such device.
        MissingFileError, ModelError: the folder's files cannot serve.
    """
    from .load.model import find_files, load_model
    from .tiny import default_folder, ensure_tiny, tiny_files

    placement = DevicePlacement(_device(device))
    if models == "tiny":
        return load_model(tiny_files(ensure_tiny(default_folder()), _VARIANTS[app][0]), placement)
    return load_model(find_files(Path(models), _VARIANTS[app]), placement)


def lora_folders(models: str) -> list[Path]:
    """Where LoRAs are looked up by name: the `loras` folder of a ComfyUI models folder."""
    return [folder for folder in (Path(models) / "loras",) if folder.is_dir()]


def rife_folders(models: str) -> list[Path]:
    """Where RIFE weights are looked for.

    The folders of the models folder, of the ComfyUI models folder that it lies in, and of
    ComfyUI-Frame-Interpolation beside that.

    Args:
        models: "tiny", or a folder of weights.
    """
    from .tiny import default_folder, tiny_rife_folder
    from .upsample.rife.load import FOLDERS, PACK_FOLDER, PACK_NAMES

    if models == "tiny":
        return [tiny_rife_folder(default_folder())]
    folder = Path(models).absolute()
    roots = [folder, folder / "models", *(p for p in folder.parents if p.name == "models")]
    places = [root / name for root in roots for name in FOLDERS]
    packs = (Path("custom_nodes", name) / PACK_FOLDER for name in PACK_NAMES)
    places += [root.parent / pack for pack in packs for root in roots]
    return [place for place in dict.fromkeys(places) if place.is_dir()] or places[: len(FOLDERS)]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            what=f"--device {name} cannot be used ({str(error).splitlines()[0]}).",
            why="The models need a device that this PyTorch can compute on.",
            fix="Use auto or cpu, or install a PyTorch build for your GPU.",
        ) from None
    return device
