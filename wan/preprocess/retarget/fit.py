"""Fit the motion of a driving video to a character: its picture measured, edited, compared."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...media.resize import resize_by_area
from ...progress import Reporter
from ..pose.measure import measure_poses
from ..pose.onnx import PoseModels
from ..pose.track import Array, PoseTrack
from .edit import EditedPictures, Pipeline, edited_pictures
from .poses import retarget


@dataclass(frozen=True)
class Editing:
    """How both figures come into one neutral pose before their bones are compared."""

    driving: Array | Tensor | None = None
    """The second driving frame, edited elsewhere, [any, any, 3] uint8."""
    reference: Array | Tensor | None = None
    """The reference picture, likewise; both or none."""
    pipeline: Pipeline | None = None
    """FLUX.1-Kontext, where no pictures are given."""
    seed: int = 0
    """Of the editor's noise."""


@dataclass(frozen=True)
class FittedPose:
    """A motion with a character's proportions."""

    pose: PoseTrack
    """T frames in the size of the video to be made."""
    pictures: EditedPictures
    """What the bones were measured on: edited pictures, or the first driving frame and the
    character as they are."""


def fit_pose(
    frames: Array,
    pose: PoseTrack,
    reference: Tensor,
    area: int,
    models: PoseModels,
    reporter: Reporter,
    editing: Editing | None = None,
    ratio_limit: float | None = None,
) -> FittedPose:
    """Retarget a motion to the character of a picture.

    Args:
        frames: [T, H, W, 3] uint8, the driving video.
        pose: measured in it.
        reference: [h, w, 3] uint8, the character's picture as it was read. It is measured at the
            size of the video to be made, with that size.
        area: of the video to be made, width times height in pixels.
        models: to measure the pictures with.
        reporter: told of each phase.
        editing: compare bones in edited pictures, see `edit.py`.
        ratio_limit: see `retarget`.
    Raises:
        InputError: nobody was found in one of the pictures.
    Source: Wan2.2 preprocess/process_pipepline.py.
    """

    def measure(picture: Array) -> PoseTrack:
        found = models.detector, models.pose
        return measure_poses(picture[None], *found, reporter=reporter, needs_person=False)

    character = resize_by_area(reference, area).numpy()
    of_character, tracks = measure(character), None
    pictures = EditedPictures(frames[0], character)
    if editing is not None:
        given = editing.driving, editing.reference
        pictures = edited_pictures(
            frames, character, pose, reporter, given, editing.pipeline, editing.seed
        )
        tracks = measure(pictures.driving), measure(pictures.reference)
    return FittedPose(retarget(pose, of_character, tracks, ratio_limit), pictures)
