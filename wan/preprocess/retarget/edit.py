"""The FLUX route of retargeting: both people put into one neutral pose before bones are compared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import GeometryError, InputError, MissingFileError
from ...media.resize import letterbox
from ...progress import Reporter, phase
from ..pose.track import Array, Joint, PoseTrack

log = logging.getLogger("wan_local")

# Wan2.2 process_pipepline.py
GUIDANCE_SCALE = 2.5
STEPS = 28
EDITED_FRAME = 1
VISIBLE_SCORE = 0.75
_ARMS = [Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST, Joint.LEFT_ELBOW, Joint.LEFT_WRIST]
_LEGS = [Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE, Joint.LEFT_KNEE, Joint.LEFT_ANKLE]
_T_POSE = "Change the person to a standard T-pose (facing forward with arms extended)."
_ARMS_DOWN = (
    "Change the person to a standard pose with the face oriented forward and arms extending "
    "straight down by the sides."
)
_STANDING = " The person is standing. Feet and Hands are visible in the image."
_HANDS = " Hands are visible in the image."
_FACE = "Change the person to face forward."

DOWNLOAD = (
    "Download the Diffusers folder black-forest-labs/FLUX.1-Kontext-dev (about 34 GB without the "
    "single-file copy; its own licence must be accepted on Hugging Face first)"
)
ALTERNATIVE = (
    "or edit frame 2 of the driving video and the reference image with any other tool and give "
    "both results, or switch use_flux off"
)


class Pipeline(Protocol):
    """What is used of diffusers' `FluxKontextPipeline`."""

    def __call__(
        self,
        *,
        image: Any,
        prompt: str,
        height: int,
        width: int,
        guidance_scale: float,
        num_inference_steps: int,
        generator: torch.Generator,
        callback_on_step_end: Callable[..., dict[str, Any]],
    ) -> Any:
        """Edit one PIL image; the result is `images[0]`, again a PIL image of any size."""
        ...


@dataclass(frozen=True)
class EditedPictures:
    """Both people in one neutral pose, ready to be measured."""

    driving: Array
    """[H, W, 3] uint8 in the driving video's size."""
    reference: Array
    """[h, w, 3] uint8 in the reference's size."""


def editing_prompts(driving: PoseTrack, reference_size: tuple[int, int]) -> tuple[str, str]:
    """What the image editor is told, by which limbs the driving video shows in any frame.

    Args:
        driving: all frames.
        reference_size: width and height of the reference, pixels. A wide picture asks for a
            T-pose, another one for arms that hang down.
    Returns:
        Texts for the driving frame and for the reference.
    Source: Wan2.2 process_pipepline.py, get_editing_prompts.
    """
    if _shows(driving, _LEGS):
        visible = _STANDING
    elif _shows(driving, _ARMS):
        visible = _HANDS
    else:
        return _FACE, _FACE

    def prompt(size: tuple[int, int]) -> str:
        width, height = size
        return (_T_POSE if width > height else _ARMS_DOWN) + visible

    return prompt(driving.size), prompt(reference_size)


def edited_pictures(
    frames: Array | Tensor,
    reference: Array | Tensor,
    driving: PoseTrack,
    reporter: Reporter,
    given: tuple[Array | Tensor | None, Array | Tensor | None] = (None, None),
    pipeline: Pipeline | None = None,
    seed: int = 0,
) -> EditedPictures:
    """The two pictures with a neutral pose: those that were given, or made by FLUX.1-Kontext.

    Args:
        frames: [T, H, W, 3] uint8, the driving video; its second frame is edited.
        reference: [h, w, 3] uint8, resized to the size of the result.
        driving: poses of `frames`.
        reporter: told of every step.
        given: driving frame and reference, edited elsewhere, [any, any, 3] uint8; both or none.
        pipeline: FLUX.1-Kontext, see `kontext.py`; not needed where pictures are given.
        seed: of the editor's noise.
    Returns:
        Both pictures, letterboxed to the sizes of the originals.
    Raises:
        InputError: one edited picture without the other.
        MissingFileError: no pictures and no pipeline.
        GeometryError: the driving video has a single frame, or a picture is none.
    """
    frames, reference = _array(frames), _array(reference)
    edits = [None if picture is None else _array(picture) for picture in given]
    frame, character = edits
    if frame is not None and character is not None:
        return EditedPictures(_fit(frame, frames[0]), _fit(character, reference))
    if frame is not None or character is not None:
        here, missing = ("driving frame", "reference image")[:: 1 if character is None else -1]
        raise InputError(
            what=f"The edited {here} was given without the edited {missing}.",
            why="Bones are compared between the two, in the same pose.",
            fix=f"Give the edited {missing} too, or neither to have both made by FLUX.1-Kontext.",
        )
    if pipeline is None:
        raise MissingFileError(
            what="use_flux is on, but there is neither FLUX.1-Kontext nor a pair of edited images.",
            why="The bones are measured on both people in one neutral pose, which an image editor "
            "has to make.",
            fix=f"{DOWNLOAD}, {ALTERNATIVE}.",
        )
    return edit_images(frames, reference, driving, pipeline, reporter, seed)


def edit_images(
    frames: Array | Tensor,
    reference: Array | Tensor,
    driving: PoseTrack,
    pipeline: Pipeline,
    reporter: Reporter,
    seed: int = 0,
) -> EditedPictures:
    """Edit the reference and the second driving frame with FLUX.1-Kontext.

    Args, Returns: as `edited_pictures`.
    Raises:
        GeometryError: the driving video has a single frame.
    Source: Wan2.2 process_pipepline.py.
    """
    frames, reference = _array(frames), _array(reference)
    if len(frames) <= EDITED_FRAME:
        raise GeometryError(
            what=f"The driving video has {len(frames)} frame.",
            why="FLUX edits its second frame.",
            fix="Use a longer driving video, a higher fps, or switch use_flux off.",
        )
    height, width = reference.shape[:2]
    of_frame, of_reference = editing_prompts(driving, (width, height))
    with phase(reporter, "edit images", 2 * STEPS) as advance:

        def edit(picture: Array, prompt: str) -> Array:
            return _edit(picture, prompt, pipeline, advance, seed)

        character = edit(reference, of_reference)
        return EditedPictures(edit(frames[EDITED_FRAME], of_frame), character)


def _edit(
    picture: Array, prompt: str, pipeline: Pipeline, advance: Callable[..., None], seed: int
) -> Array:
    from PIL import Image

    def after_step(_pipeline: Any, _step: int, _timestep: Any, state: dict) -> dict[str, Any]:
        advance()
        return state

    log.info("editing: %s", prompt)
    height, width = picture.shape[:2]
    result = pipeline(
        image=Image.fromarray(picture),
        prompt=prompt,
        height=height,
        width=width,
        guidance_scale=GUIDANCE_SCALE,
        num_inference_steps=STEPS,
        generator=torch.Generator("cpu").manual_seed(seed),
        callback_on_step_end=after_step,
    )
    # The pipeline works at about a million pixels whatever it was asked for.
    return _fit(np.asarray(result.images[0].convert("RGB")), picture)


def _fit(picture: Array, original: Array) -> Array:
    height, width = original.shape[:2]
    return letterbox(picture, width, height)


def _shows(track: PoseTrack, joints: list[Joint]) -> bool:
    """Whether any frame shows any of the joints."""
    points = track.body[:, joints]
    is_inside = (points[..., :2] <= 1).all(axis=-1)
    return bool((is_inside & (points[..., 2] >= VISIBLE_SCORE)).any())


def _array(pictures: Array | Tensor) -> Array:
    return pictures if isinstance(pictures, np.ndarray) else pictures.cpu().numpy()
