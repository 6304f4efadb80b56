"""What became of a prompt: from ComfyUI's words to those of the service."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...wan.errors import WanError
from ...wan.media.video import probe_video
from ...wan.service.executor import Outcome
from ...wan.service.problems import ApiError, FieldError
from ...wan.service.statuses import Status
from .. import host_server
from .choices import missing, requirement
from .graphs import Filled

_RESULT_KEYS = ("images", "video", "videos", "gifs", "audio")
_MODEL_SUFFIXES = (".safetensors", ".sft", ".gguf", ".pth", ".pt", ".ckpt", ".onnx", ".bin")
# Where the files belong that core's loaders and ours list under these names.
_FOLDERS = {
    "model": "diffusion_models",
    "unet_name": "diffusion_models",
    "ckpt_name": "checkpoints",
    "vae": "vae",
    "vae_name": "vae",
    "text_encoder": "text_encoders",
    "clip_name": "text_encoders",
    "image_encoder": "clip_vision",
    "lora": "loras",
    "lora_name": "loras",
    "detector": "detection",
    "pose": "detection",
    "rife_name": "frame_interpolation",
}
_MEMORY_ADVICE = (
    "The device ran out of memory. Use a smaller size, fewer frames, or tiles for the VAE."
)


def outcome_of(filled: Filled, entry: Mapping[str, Any]) -> Outcome:
    """How a prompt ended, by its entry in the host's history. Opens the result.

    Args:
        entry: {"outputs", "status"}.
    """
    messages = entry["status"].get("messages") or []
    name, data = messages[-1] if messages else ("", {})
    if name == "execution_interrupted":
        return Outcome(Status.CANCELLED)
    if name == "execution_error":
        return Outcome(Status.FAILED, error=error_line(filled, data))
    if name != "execution_success":
        return Outcome(Status.FAILED, error="ComfyUI ended the job without saying why.")
    files = {}
    for output, node in filled.outputs.items():
        path = _result(entry["outputs"].get(node) or {})
        if path is None:
            title = filled.title(node)
            return Outcome(Status.FAILED, error=f"{title}: wrote no file, or an empty one.")
        files[output] = path
    return Outcome(Status.COMPLETED, files, _facts(next(iter(files.values()), None)))


def error_line(filled: Filled, data: Mapping[str, Any]) -> str:
    """One readable line; the traceback and what the node was given stay in the server's log."""
    kind = (data.get("exception_type") or "").rpartition(".")[2]
    message = _without_folders((data.get("exception_message") or "").strip())
    title = filled.title(str(data.get("node_id")))
    if kind == "OutOfMemoryError":
        first = (message.splitlines() or [""])[0]
        return f"{title}: {_MEMORY_ADVICE} ({first})"
    return f"{title}: {' '.join(message.split()) or kind}"


def _without_folders(text: str) -> str:
    """The same text with files called by their name in ComfyUI's folders."""
    for folder in (host_server.input_folder(), host_server.output_folder()):
        for spelling in {str(folder), str(folder.resolve())}:
            text = text.replace(f"{spelling}/", "").replace(f"{spelling}\\", "")
    return text


def refusal(filled: Filled, body: Mapping[str, Any]) -> ApiError:
    """The host's refusal of a graph, in terms of the app's parameters.

    Args:
        body: the answer of POST /prompt with status 400.
    """
    fields: dict[str, FieldError] = {}
    needs, others = [], []
    for node, entry in (body.get("node_errors") or {}).items():
        for error in entry.get("errors") or ():
            about = error.get("extra_info") or {}
            name = about.get("input_name") or ""
            parameter = filled.origins.get((str(node), name)) or _only_parameter(filled, node, name)
            text = _sentence(error)
            received = about.get("received_value")
            if parameter:
                fields.setdefault(
                    parameter, FieldError(parameter, "invalid", f"{parameter}: {text}")
                )
            elif _is_model(error, received):
                folder = f"models/{_FOLDERS.get(name, name)}"
                message = f"{received} is not there: put it into {folder}."
                needs.append(requirement(received, folder, message))
            else:
                others.append(f"{filled.title(str(node))}: {text}")
    if fields:
        found = list(fields.values())
        return ApiError("validation_error", "; ".join(f.message for f in found), found)
    if needs:
        return missing({need["key"]: need for need in needs}.values())
    detail = "; ".join(dict.fromkeys(others)) or _sentence(body.get("error") or {})
    return ApiError("validation_error", f"ComfyUI does not accept the workflow: {detail}")


def _only_parameter(filled: Filled, node: str, name: str) -> str | None:
    """A node that looks at its inputs together names any of them: then a sole parameter counts."""
    behind = {p for (key, _), p in filled.origins.items() if key == str(node)}
    return next(iter(behind)) if len(behind) == 1 and not name else None


def _is_model(error: Mapping[str, Any], received: Any) -> bool:
    is_unknown = error.get("type") == "value_not_in_list"
    return is_unknown and isinstance(received, str) and received.endswith(_MODEL_SUFFIXES)


def _sentence(error: Mapping[str, Any]) -> str:
    message, details = str(error.get("message") or ""), str(error.get("details") or "")
    details = _without_folders(details)
    # A node's own words come as "input - words".
    own = re.match(r"[\w.]+ - (.*)", details, re.DOTALL)
    if error.get("type") == "custom_validation_failed" and own:
        return " ".join(own[1].split())
    return " ".join(f"{message} ({details})".split()) if details else message


def _result(output: Mapping[str, Any]) -> Path | None:
    """The file that a save node told the page of."""
    root = host_server.output_folder().resolve()
    for key in _RESULT_KEYS:
        for entry in output.get(key) or ():
            if not isinstance(entry, Mapping) or entry.get("type") != "output":
                continue
            path = (root / (entry.get("subfolder") or "") / entry["filename"]).resolve()
            if path.is_relative_to(root) and path.is_file() and path.stat().st_size:
                return path
    return None


def _facts(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        facts = probe_video(path)
    except WanError:
        return {}  # sound, or a format that this machine cannot read
    found: dict[str, Any] = {"width": facts.width, "height": facts.height}
    if not facts.is_still:
        found |= {"fps": float(facts.fps), "frames": facts.frames, "seconds": facts.duration}
    return found
