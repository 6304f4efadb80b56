"""From a driving video, its pose and a picture to what an animation is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..encode.animate import condition_animation
from ..errors import GeometryError, InputError
from ..geometry import fit_area
from ..media.sequence import Frames
from ..payloads import AnimateCondition, Mode, Relighting, Scene, WanModel
from ..preprocess.mask.shape import match_mask
from ..preprocess.pose.face import face_video, find_faces
from ..preprocess.pose.skeleton import pose_video
from ..preprocess.pose.track import PoseTrack, describe_misses
from ..preprocess.video import DrivingVideo
from ..progress import Reporter


@dataclass(frozen=True)
class Figure:
    """Who moves, and how."""

    reference: Tensor
    """[h, w, 3] uint8, the character's picture as it was read."""
    pose: PoseTrack
    """T frames, measured in the driving video or fitted to the character."""
    poses: Frames | None = None
    """A skeleton video to be used in place of the drawn one."""
    faces: Frames | None = None
    """A face video to be used in place of the one cut out of the driving video."""
    features: Tensor | None = None
    """What an image encoder made of the picture, [1, tokens, image_dim]; None: it is encoded."""


def condition_figure(
    model: WanModel,
    driving: DrivingVideo,
    figure: Figure,
    size: tuple[int, int],
    reporter: Reporter,
    scene: Scene | None = None,
    relighting: Relighting | None = None,
    tile_size: int = 0,
) -> AnimateCondition:
    """Draw the pose, cut out the face and encode the character's picture.

    Args:
        model: Animate weights.
        driving: the video that the pose was measured in.
        figure: who moves.
        size: width and height of the video to be made, see `video_size`.
        reporter: told of frames without a face.
        scene, relighting, tile_size: see `condition_animation`.
    Raises:
        GeometryError: sizes or lengths do not fit each other.
        ModelError: the weights are of another variant.
    """
    faces = figure.faces
    if faces is None:
        faces = _cut_faces(driving, figure.pose.measured, reporter)
    poses = figure.poses
    if poses is None:
        poses = pose_video(figure.pose, *size)
    return condition_animation(
        model,
        figure.reference,
        poses,
        faces,
        *size,
        reporter,
        scene,
        relighting,
        tile_size,
        figure.features,
    )


def video_size(mode: Mode, reference: Tensor, driving: DrivingVideo, area: int) -> tuple[int, int]:
    """Width and height of the video to be made.

    Args:
        mode: animation takes the aspect of the picture, replacement the size of the driving video
            as it was read.
        reference: [h, w, 3].
        area: width times height in pixels; for animation.
    """
    if mode is Mode.REPLACEMENT:
        return driving.frames.shape[2], driving.frames.shape[1]
    return fit_area(reference.shape[1], reference.shape[0], area)


def make_scene(
    mode: Mode, driving: DrivingVideo, mask: Tensor | None, background: Frames | None
) -> Scene | None:
    """What a character is put into; in animation there is nothing.

    Args:
        driving: the video that is replaced in.
        mask: as in `match_mask`, 1 = the person to replace, grown.
        background: T frames, the driving video without the person.
    Raises:
        InputError: one of the two is missing in replacement, or given in animation.
        GeometryError: the mask does not fit the driving video.
    """
    given = [n for n, v in (("mask", mask), ("background", background)) if v is not None]
    if mode is Mode.ANIMATION:
        if given:
            raise InputError(
                what=f"The mode is animation, and {' and '.join(given)} "
                f"{'is' if len(given) == 1 else 'are'} connected.",
                why="In animation the character keeps the background of its own picture; a mask "
                "says what to replace in the driving video.",
                fix="Choose the mode replacement, or disconnect them.",
            )
        return None
    if mask is None or background is None:
        missing = [name for name in ("mask", "background") if name not in given]
        raise InputError(
            what=f"The mode is replacement, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not connected.",
            why="The mask says who is replaced, the background is the scene without that person.",
            fix="Connect both from Wan Mask Dilate, or choose the mode animation.",
        )
    return Scene(background, match_mask(mask, driving.frames))


def _cut_faces(driving: DrivingVideo, pose: PoseTrack, reporter: Reporter) -> Frames:
    count, height, width = driving.frames.shape[:3]
    if (len(pose), *pose.size) != (count, width, height):
        raise GeometryError(
            what=f"The poses are of {len(pose)} frames of {pose.width}x{pose.height}, the driving "
            f"video has {count} of {width}x{height}.",
            why="The face is cut out where it was measured.",
            fix="Connect the driving video that the poses were measured in.",
        )
    faces = find_faces(pose)
    missed = describe_misses({"face": faces.misses}, len(pose))
    if missed:
        reporter.note(missed)
    return face_video(driving.frames, faces)
