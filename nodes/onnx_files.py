"""Which pose models and SAM2 folders are offered, and what a choice among them means."""

from pathlib import Path

from ..wan.errors import MissingFileError
from ..wan.preprocess.mask.grabcut import GrabCut
from ..wan.preprocess.mask.sam2 import Sam2
from ..wan.preprocess.mask.segment import Segmenter
from ..wan.preprocess.pose.onnx import ModelKind, PoseModels
from ..wan.tiny import default_folder, ensure_tiny, tiny_pose_files
from . import host, host_memory

TINY = "tiny (knows only the drawn puppet, for tests)"
GRABCUT = "GrabCut (fallback, no weights)"
DEVICES = ("auto", "cpu")
_ONNX, _SAM2 = "wan_onnx", "wan_sam2"
# What the name of a file of each kind usually holds; only the default of the widget hangs on it.
_USUAL_NAMES = {ModelKind.DETECTOR: "yolo", ModelKind.POSE: "vitpose"}


def register() -> list[Path]:
    """Make our folder keys known to the host; gives back the folders where SAM2 may be.

    Core's own key `detection` lists no .onnx files, so the same folders get a key of ours.
    """
    host.own_folders(_ONNX, {"detection"}, like="detection", suffix=".onnx")
    return host.own_folders(_SAM2, {"sam2"})


def onnx_choices() -> list[str]:
    """The options of both drop-downs of the loader."""
    register()
    return [*host.model_files(_ONNX), TINY]


def onnx_default(kind: ModelKind) -> str:
    """The file that is most likely of this kind."""
    return next((n for n in onnx_choices() if _USUAL_NAMES[kind] in n.lower()), TINY)


def find_onnx(name: str, kind: ModelKind) -> Path:
    """Path of a file that the loader offers.

    Raises:
        MissingFileError: it is not there.
    """
    if name == TINY:
        detector, pose = tiny_pose_files(ensure_tiny(default_folder()))
        return detector if kind is ModelKind.DETECTOR else pose
    register()
    path = host.model_path(_ONNX, name)
    if path is None:
        raise MissingFileError(
            what=f"{name} is not in models/detection.",
            why=f"It was chosen as {kind.value}.",
            fix="Put it there and press R, or choose another one in Wan Pose Model Loader.",
        )
    return path


def open_models(detector: str, pose: str, device: str) -> PoseModels:
    """Open both files of a loader.

    Raises:
        MissingFileError: one is not there.
        ModelError: one is damaged or of another kind.
        UnavailableError: onnxruntime is not installed.
    """
    files = find_onnx(detector, ModelKind.DETECTOR), find_onnx(pose, ModelKind.POSE)
    return PoseModels.open(*files, device)


def fingerprint(detector: str | None, pose: str | None) -> list[str]:
    """Changes when one of the chosen files does."""
    names = (name for name in (detector, pose) if name not in (None, TINY))
    return [host.fingerprint(host.model_path(_ONNX, name)) for name in names]


def segmenter_choices() -> list[str]:
    """What can mask a person: SAM2 folders, and the fallback."""
    return [*_sam2_folders(), GRABCUT]


def make_segmenter(method: str) -> Segmenter:
    """What a choice stands for.

    Raises:
        MissingFileError: the folder is not there.
        ModelError: it holds another model.
        UnavailableError: transformers is too old.
    """
    if method == GRABCUT:
        return GrabCut()
    folder = _sam2_folders().get(method)
    if folder is None:
        raise MissingFileError(
            what=f"{method} is not in models/sam2.",
            why="The person is masked with it.",
            fix=f'Put the folder there and press R, or choose "{GRABCUT}".',
        )
    return Sam2(folder, host_memory.placement())


def _sam2_folders() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in register():
        for config in sorted(root.glob("*/config.json")):
            found.setdefault(config.parent.name, config.parent)
    return found


register()
