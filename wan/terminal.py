"""The command line's side of a run: progress bars, and models by a folder's name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .app import Surroundings
    from .load.files import ModelFiles

from .errors import InputError
from .load.catalog import VARIANTS
from .miniatures import find_miniature
from .parallel import rank_devices
from .parallel.leader import lead
from .payloads import WanModel
from .progress import Preview
from .residency import DevicePlacement, Offload
from .sample.settings import AS_LOADED, IN_FP8

# From here on the number of items means nothing to the reader, only the share of them.
_MANY = 10_000
_LONG = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}"


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
        form = _LONG if total >= _MANY else None
        self._bar = tqdm(
            total=total, desc=f"{phase:>18}", file=sys.stderr, unit="", bar_format=form
        )

    def update(self, done: int, preview: Preview | None = None) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def check_cancelled(self) -> None:
        """Nothing to ask: an interrupt arrives as an exception."""

    def status(self, text: str) -> None:
        """Show it behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)


def open_device(name: str, offload: Offload = Offload.AUTO, ranks: int = 1) -> DevicePlacement:
    """Where models compute.

    Args:
        name: "auto" or a torch device.
        offload: what leaves it, and when.
        ranks: how many processes compute one video: this one, and others that it starts when they
            are needed, each with the next GPU.
    Raises:
        InputError: no such device, or not as many of them.
        UnavailableError: this PyTorch cannot let processes work together.
    """
    devices = find_devices(name, ranks)
    leader = lead(devices)
    if leader is not None:
        leader.start()
    return DevicePlacement(devices[0], offload, ranks=leader)


def find_devices(name: str, ranks: int = 1) -> tuple[torch.device, ...]:
    """One device for each rank. Arguments and errors: as `open_device`."""
    return rank_devices(_device(name), ranks)


def open_models(models: str, placement: DevicePlacement, app: str) -> WanModel:
    """The model of an app.

    Args:
        models: "mini", "tiny" or a folder of weights.
        placement: from `open_device`.
        app: name of the app, which decides the kind of weights.
    Raises:
        MissingFileError, ModelError: the folder's files cannot serve.
    """
    from .load.model import load_model

    miniature = find_miniature(models)
    files = miniature.app_files(app) if miniature else find_weights(models, app)
    return load_model(files, placement)


def offload_of(values: Mapping[str, Any], wanted: str | None = None) -> Offload:
    """What leaves the device in a run of an app.

    Args:
        values: of its parameters; `offload_model` false keeps models on the device.
        wanted: of the command line, which comes first; None: nothing was said there.
    """
    if wanted:
        return Offload(wanted)
    return Offload.AUTO if values.get("offload_model", True) else Offload.OFF


def find_weights(models: str, app: str) -> ModelFiles:
    """The files of an app's model, without reading more than their headers.

    Args:
        models: a folder of weights.
        app: name of the app.
    Raises:
        MissingFileError, ModelError: as `open_models`.
    """
    from .load.files import find_files

    return find_files(Path(models), VARIANTS[app])


def surroundings(
    models: str,
    model: WanModel,
    out: Path,
    embeds_metadata: bool = True,
    fp8: bool = False,
) -> Surroundings:
    """What else belongs to a folder of models.

    Args:
        models: as in `open_models`.
        model: what `open_models` gave.
        out: the video to be written; clips of a long one wait beside it, and after an interruption
            the same command goes on behind them.
        embeds_metadata: whether the file tells its parameters and seed.
        fp8: whether the transformer's linear layers multiply in float8 where the device can.
    """
    from .animate.loop import Places
    from .app import Surroundings
    from .load.companions import find_companions

    miniature = find_miniature(models)
    folder = miniature.companions if miniature else Path(models)
    own = [folder / "loras"] if (folder / "loras").is_dir() else []
    return Surroundings(
        lora_folders=miniature.loras if miniature else own,
        rife_folders=rife_folders(models),
        companions=find_companions(folder),
        placement=model.transformer.placement,
        places=Places(kept=out.parent / f".{out.stem}.clips"),
        embeds_metadata=embeds_metadata,
        linears=IN_FP8 if fp8 else AS_LOADED,
    )


def rife_folders(models: str) -> list[Path]:
    """Where RIFE weights are looked for.

    The folders of the models folder, of the ComfyUI models folder that it lies in, and of
    ComfyUI-Frame-Interpolation beside that.

    Args:
        models: "mini", "tiny" or a folder of weights.
    """
    from .upsample.rife.load import FOLDERS, PACK_FOLDER, PACK_NAMES

    miniature = find_miniature(models)
    if miniature:
        return [miniature.rife]
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
