"""SAM2 follows the person through the video, pointed at by the pose."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from collections.abc import Iterator as Iterating
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...errors import MissingFileError, ModelError, UnavailableError
from ...residency import Part, Placement
from ..pose.track import Array, PoseTrack, select_frames
from .segment import key_points, plan_chunks

_MODEL_TYPE = "sam2_video"
# Wan2.2 sam_utils.py, load_video_frames_v2
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_LARGEST_HOLE = 8  # pixels of the low-resolution mask; Wan2.2 sam_utils.py, fill_hole_area
_IN_A_HOLE = 0.1  # facebookresearch/sam2 sam2/utils/misc.py, fill_holes_in_mask_scores
_PERSON = 1  # the only object
# The large image encoder at 1024x1024 in float32 and the memories of the frames that are kept.
_WORK_BYTES = 4 << 30
_FOLDER = "facebook/sam2-hiera-large (config.json and model.safetensors, 0.9 GB)"


class Sam2:
    """SAM2 from a transformers folder; its weights are read on first use.

    Each run of 400 frames is tracked on its own. What is kept of a frame does not grow with their
    number beyond the masks: frames are prepared when they are looked at, and memories that the
    model no longer reads are let go.

    Args:
        folder: holds config.json and safetensors of a `Sam2VideoModel`.
        placement: who owns the model and where it computes.
    Raises:
        MissingFileError: the folder or its weights are not there.
        ModelError: it is a SAM2 file of the authors, or another model.
        UnavailableError: transformers is too old for SAM2.
    """

    note: str | None = None

    def __init__(self, folder: Path, placement: Placement) -> None:
        _check(folder)
        self._part: Part[Any] = Part("SAM2", lambda: _load(folder), placement)

    def segment(self, frames: Array, pose: PoseTrack, advance: Callable[[], None]) -> Array:
        """Masks of the person whose pose this is; see `Segmenter`.

        A run of frames in which no joint is sure gets empty masks.
        """
        masks = np.zeros(frames.shape[:3], np.uint8)
        with self._part.on_device(_WORK_BYTES) as model, torch.inference_mode():
            for chunk in plan_chunks(len(frames)):
                points = key_points(select_frames(pose, chunk))
                part = slice(chunk.start, chunk.stop)
                if not points:
                    for _ in chunk:
                        advance()
                    continue
                for frame, mask in _track(model, frames[part], points, self._part.device):
                    masks[part][frame] = mask
                    advance()
        return masks


class _SquashedFrames(Mapping[int, Tensor]):
    """Frames as the model sees them, each made when it is asked for.

    A session that holds them all needs 5 GB for 400 frames.
    """

    def __init__(self, frames: Array, side: int) -> None:
        self._frames, self._side = frames, side
        self._mean = torch.tensor(_MEAN).view(3, 1, 1)
        self._std = torch.tensor(_STD).view(3, 1, 1)

    def __getitem__(self, frame: int) -> Tensor:
        from PIL import Image

        picture = Image.fromarray(self._frames[frame])
        squashed = picture.resize((self._side, self._side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(squashed)).permute(2, 0, 1)  # H W C -> C H W
        return (pixels.float() / 255 - self._mean) / self._std

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterating[int]:
        return iter(range(len(self._frames)))


def _track(
    model: Any, frames: Array, prompts: dict[int, Array], device: torch.device
) -> Iterating[tuple[int, Array]]:
    """Frame numbers and masks [H, W] uint8 of one chunk, each once: from the first frame with
    prompts back to the start, then from there to the end."""
    height, width = frames.shape[1:3]
    session = _open_session(frames, model.config.image_size, device)
    person = session.obj_id_to_idx(_PERSON)
    for frame, points in prompts.items():
        scale = torch.tensor([session.processed_frames._side / n for n in (width, height)])
        places = torch.from_numpy(points).float() * scale
        labels = torch.ones(len(points), dtype=torch.int32)
        session.add_point_inputs(
            person, frame, {"point_coords": places[None, None], "point_labels": labels[None, None]}
        )
        session.obj_with_new_inputs = [_PERSON]
        model(session, frame_idx=frame)

    outputs = session.output_dict_per_obj[person]
    first = min(prompts)
    orders = (range(first - 1, -1, -1), range(first, len(frames)))
    for order, reverse in zip(orders, (True, False), strict=True):
        for frame in order:
            result = model(session, frame_idx=frame, reverse=reverse)
            _forget(outputs, frame, model.config)
            yield frame, _mask(result.pred_masks, height, width)
        outputs["non_cond_frame_outputs"].clear()


def _open_session(frames: Array, side: int, device: torch.device) -> Any:
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    session = Sam2VideoInferenceSession(
        video_height=frames.shape[1],
        video_width=frames.shape[2],
        inference_device=device,
        inference_state_device=device,
        video_storage_device=device,
        dtype=torch.float32,
    )
    session.processed_frames = _SquashedFrames(frames, side)
    return session


def _forget(outputs: dict[str, dict[int, dict]], frame: int, config: Any) -> None:
    """Drop what the model will not read again: the large masks, and memories out of its reach."""
    reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
    tracked = outputs["non_cond_frame_outputs"]
    for old in [other for other in tracked if abs(other - frame) > reach]:
        del tracked[old]
    for kept in (*tracked.values(), *outputs["cond_frame_outputs"].values()):
        kept.pop("high_res_masks", None)


def _mask(logits: Tensor, height: int, width: int) -> Array:
    """Low-resolution logits [1, 1, h, w] to a mask [height, width] uint8."""
    filled = _fill_holes(logits.float())
    large = functional.interpolate(filled, (height, width), mode="bilinear", align_corners=False)
    return (large[0, 0] > 0).to("cpu", torch.uint8).numpy()


def _fill_holes(logits: Tensor) -> Tensor:
    """Close holes of up to 8 pixels, which in SAM2 itself needs a compiled CUDA extension."""
    import cv2

    is_empty = (logits[0, 0] <= 0).to("cpu", torch.uint8).numpy()
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(is_empty, connectivity=8)
    is_hole = statistics[:, cv2.CC_STAT_AREA] <= _LARGEST_HOLE
    is_hole[0] = False  # label 0 is the mask itself
    hole = torch.from_numpy(is_hole[labels]).to(logits.device)
    return torch.where(hole, _IN_A_HOLE, logits)


def _load(folder: Path) -> Any:
    from safetensors import SafetensorError

    model_class = _model_class()
    try:
        model, report = model_class.from_pretrained(
            folder, config=_read_config(folder), local_files_only=True, output_loading_info=True
        )
    except (OSError, TypeError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(
            what=f"SAM2 cannot be read from '{folder.name}' ({str(error).splitlines()[0]}).",
            why="A file is damaged, or of another model.",
            fix=f"Download {_FOLDER} again.",
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            what=f"'{folder.name}' lacks {len(missing)} tensors of SAM2, first '{missing[0]}'.",
            why="A model with random weights in their place would mark anything.",
            fix=f"Download {_FOLDER}.",
        )
    return model.float().eval().requires_grad_(False)


def _read_config(folder: Path) -> Any:
    from transformers import Sam2VideoConfig, Sam2VideoMaskDecoderConfig

    values = json.loads((folder / "config.json").read_text("utf8"))
    # transformers 5.17 takes settings of the mask decoder for those of the prompt encoder.
    decoder = Sam2VideoMaskDecoderConfig(**values.pop("mask_decoder_config", {}))
    return Sam2VideoConfig.from_dict({**values, "mask_decoder_config": decoder})


def _model_class() -> Any:
    try:
        from transformers import Sam2VideoModel
    except ImportError:
        import transformers

        raise UnavailableError(
            what=f"transformers {transformers.__version__} has no SAM2 for videos.",
            why="The person is followed by its Sam2VideoModel.",
            fix="Update transformers to 4.56 or newer, or use the GrabCut fallback or a mask.",
        ) from None
    return Sam2VideoModel


def _check(folder: Path) -> None:
    if not folder.exists():
        raise MissingFileError(
            what=f"'{folder}' is not there.",
            why="Replacement cuts the person out with SAM2.",
            fix=f"Download {_FOLDER}, or choose the GrabCut fallback or give a mask.",
        )
    config = folder / "config.json"
    if folder.is_file() or not config.is_file():
        found = folder.name if folder.is_file() else ", ".join(p.name for p in folder.glob("*.pt"))
        raise ModelError(
            what=f"'{folder.name}' is no transformers folder of SAM2"
            + (f" (found {found})." if found else "."),
            why="The authors' single files (sam2_hiera_large.pt and the like) name their tensors "
            "in another way and are not converted yet.",
            fix=f"Download {_FOLDER} and give that folder.",
        )
    try:
        kind = json.loads(config.read_text("utf8")).get("model_type")
    except (ValueError, AttributeError):
        kind = "unreadable"
    if kind != _MODEL_TYPE:
        raise ModelError(
            what=f"The model in '{folder.name}' is of type {kind!r}, not {_MODEL_TYPE!r}.",
            why="Only the video model of SAM2 follows a person from frame to frame.",
            fix=f"Download {_FOLDER}.",
        )
    if not any(folder.glob("*.safetensors")):
        raise MissingFileError(
            what=f"'{folder.name}' has a config.json but no safetensors.",
            why="The weights are missing, and pickled ones are not read.",
            fix=f"Download {_FOLDER} completely.",
        )
    _model_class()
