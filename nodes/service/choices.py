"""Which of the files in ComfyUI's folders a job uses, and what is said when one is missing."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ...wan.errors import MissingFileError, WanError
from ...wan.load.fetch import downloads_allowed, resolve_lora
from ...wan.load.transformer import inspect_transformer
from ...wan.miniatures import Miniature
from ...wan.params import I2V_APP
from ...wan.payloads import Mode, Variant
from ...wan.preprocess.pose.onnx import ModelKind
from ...wan.progress import Reporter
from ...wan.service.problems import ApiError
from .. import flux, host, lora, models, onnx_files, rife_files
from .graphs import Files, graph_name, shipped

_TRANSFORMERS = "diffusion_models"


def requirement(name: str, folder: str, message: str) -> dict[str, Any]:
    """One missing file, as the SDK's RequirementsNotMetError wants it.

    Args:
        name: of the file.
        folder: where it belongs, below ComfyUI's folder.
    """
    return {
        "type": "model",
        "key": name,
        "folder": folder,
        "message": message,
        "action": {"type": "download"},
    }


def missing(needs: Iterable[Mapping[str, Any]]) -> ApiError:
    """The refusal of a job whose files are not there."""
    needs = list(needs)
    return ApiError("requirements_not_met", " ".join(n["message"] for n in needs), needs)


def choose(
    app: str,
    values: Mapping[str, Any],
    miniature: Miniature | None,
    reporter: Reporter | None = None,
) -> Files:
    """Look for every file that a job needs. Reads headers: not for the event loop.

    Args:
        app: name without the publisher.
        values: every parameter.
        miniature: for a try without a download; None: the user's models.
        reporter: follows a download and may cancel it.
    Raises:
        ApiError: requirements_not_met, with the name and the folder of each missing file.
    """
    needs: list[dict[str, Any]] = []
    chosen: dict[str, Any] = {}

    def look(part: str, find: Callable[[], Any]) -> None:
        try:
            chosen[part] = find()
        except ApiError as error:
            needs.extend(error.errors)

    look("model", lambda: _find_model(app, values, miniature))
    if app == I2V_APP.name:
        if values["lora_file"]:
            look("lora", lambda: find_lora(values["lora_file"], reporter, miniature))
        if values["temporal_upsampling"]:
            look("rife", lambda: _find_rife(miniature))
    else:
        look("detector", lambda: _find_onnx(ModelKind.DETECTOR, "detector", miniature))
        look("pose", lambda: _find_onnx(ModelKind.POSE, "pose", miniature))
        chosen["segmenter"] = onnx_files.GRABCUT if miniature else onnx_files.segmenter_choices()[0]
        is_fitted = values["retarget_flag"] and values["mode"] == Mode.ANIMATION.value
        chosen["flux"] = flux.NONE
        if is_fitted:
            look("flux", lambda: _find_flux(values["use_flux"]))
    if needs:
        raise missing(needs)
    return Files(**chosen)


def find_lora(
    value: str | Path, reporter: Reporter | None = None, miniature: Miniature | None = None
) -> str:
    """The name in the drop-down of Wan LoRA that `lora_file` means.

    Args:
        value: as the caller gave it.
        reporter: follows a download and may cancel it.
        miniature: whose own LoRAs are found first, by the names of their files.
    Raises:
        ApiError: it is not there, leads elsewhere, or downloads are switched off.
    """
    if isinstance(value, Path):
        text = "lora_file: an uploaded LoRA cannot be used inside ComfyUI. Put the file into "
        text += "models/loras and give its name."
        field = {"field": "lora_file", "code": "invalid", "message": text}
        raise ApiError("validation_error", text, [field])
    if miniature:
        for option, path in lora.shipped_loras().items():
            if path.name == value and path.parent in miniature.loras:
                return option
    folders = host.folders_of("loras")
    try:
        path = resolve_lora(
            value, folders, downloads_allowed(), only_folders=True, reporter=reporter
        )
    except MissingFileError as error:
        # Not why: it names folders of this machine.
        text = f"{error.what} Put it into models/loras, or name one that is there."
        raise missing([requirement(value, "models/loras", text)]) from error
    except WanError as error:
        detail = _line(error)
        field = {"field": "lora_file", "code": "invalid", "message": detail}
        raise ApiError("validation_error", detail, [field]) from error
    for folder in folders:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    raise missing([requirement(value, "models/loras", f"{value} is not in models/loras.")])


def is_download(values: Mapping[str, Any]) -> bool:
    """Whether something has to be fetched before the job can be queued."""
    return "://" in (values.get("lora_file") or "") and downloads_allowed()


def _find_model(app: str, values: Mapping[str, Any], miniature: Miniature | None) -> dict[str, str]:
    name = graph_name(app, values)
    graph = shipped(f"{name}_mini" if miniature else name)
    widgets = next(n for n in graph.values() if n["class_type"] == "WanLocalModelLoader")["inputs"]
    if miniature:
        variant = Variant.I2V if app == I2V_APP.name else Variant.ANIMATE
        return widgets | {"model": models.miniature_option(miniature.name, variant)}
    if app != I2V_APP.name:
        wanted = (Variant.ANIMATE,)
    elif values["end_frame"]:
        wanted = (Variant.FLF2V, Variant.I2V)
        end = shipped("wan_i2v_end_frame")
        widgets = next(n for n in end.values() if n["class_type"] == "WanLocalModelLoader")[
            "inputs"
        ]
    else:
        wanted = (Variant.I2V,)
    model = _fitting(widgets["model"], wanted)
    if model is None:
        text = (
            f"{widgets['model']} is not there, nor other weights for {wanted[0].value}: put it "
            f"into models/{_TRANSFORMERS}, or a Diffusers folder into models/diffusers."
        )
        raise missing([requirement(widgets["model"], f"models/{_TRANSFORMERS}", text)])
    _check_companions(model, widgets)
    return dict.fromkeys(widgets, models.AUTO) | {"model": model}


def _fitting(usual: str, wanted: tuple[Variant, ...]) -> str | None:
    """The model to take: the graph's own, else the first of the best kind that is there."""
    names = host.model_files(_TRANSFORMERS)
    if usual in names:
        return usual
    folders = host.model_folders()
    kinds = {name: _variant(host.model_path(_TRANSFORMERS, name)) for name in names}
    kinds |= {name: _variant(path / "transformer") for name, path in folders.items()}
    return next((name for kind in wanted for name, k in kinds.items() if k is kind), None)


def _variant(path: Path | None) -> Variant | None:
    try:
        return inspect_transformer(path)[1] if path is not None else None
    except (WanError, OSError):
        return None  # a model of another kind, or one that cannot be used here


def _check_companions(model: str, widgets: Mapping[str, str]) -> None:
    """See whether the encoders and the VAE are there too."""
    try:
        models.find_model_files(model, *[models.AUTO] * 3)
    except MissingFileError as error:
        kinds = {"text_encoder": "text_encoders", "vae": "vae", "image_encoder": "clip_vision"}
        lacking = {
            part: folder for part, folder in kinds.items() if not host.model_files(folder)
        } or kinds
        raise missing(
            requirement(
                widgets[part],
                f"models/{folder}",
                f"{widgets[part]} is not there: put it into models/{folder}.",
            )
            for part, folder in lacking.items()
        ) from error
    except WanError as error:
        raise missing([requirement(model, f"models/{_TRANSFORMERS}", _line(error))]) from error


def _find_onnx(kind: ModelKind, widget: str, miniature: Miniature | None) -> str:
    if miniature:
        return onnx_files.TINY
    loader = next(
        n["inputs"]
        for n in shipped("wan_animation").values()
        if n["class_type"] == "WanLocalPoseModelLoader"
    )
    usual = loader[widget]
    if usual in onnx_files.onnx_choices():
        return usual
    found = onnx_files.onnx_default(kind)
    if found == onnx_files.TINY:
        text = f"{usual} is not there: put it into models/detection."
        raise missing([requirement(usual, "models/detection", text)])
    return found


def _find_rife(miniature: Miniature | None) -> str:
    name = rife_files.TINY if miniature else rife_files.rife_choices()[0]
    if name == rife_files.TINY and not miniature:
        usual = "rife_v4.26.safetensors"
        text = f"{usual} is not there: put it into models/frame_interpolation."
        raise missing([requirement(usual, "models/frame_interpolation", text)])
    return name


def _find_flux(is_wanted: bool) -> str:
    name = flux.flux_choices()[0]
    if is_wanted and name == flux.NONE:
        text = "use_flux needs FLUX.1-Kontext-dev: put its Diffusers folder into models/diffusers."
        raise missing([requirement("FLUX.1-Kontext-dev", "models/diffusers", text)])
    return name


def _line(error: WanError) -> str:
    return " ".join(str(error).split())
