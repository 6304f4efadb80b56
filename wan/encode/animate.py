"""What a character animation is conditioned on: the whole video, and one clip of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..clips import Clip
from ..errors import GeometryError
from ..geometry import SIZE_STEP, SPATIAL_STRIDE, TEMPORAL_STRIDE, latent_frames
from ..media.resize import letterbox
from ..media.sequence import Frames, pixels
from ..memo import digest
from ..payloads import (
    AnimateCondition,
    ClipCondition,
    Relighting,
    Scene,
    WanModel,
    expect_animate,
)
from ..progress import Reporter
from .given import given_features
from .image import encode_images
from .latents import Video, encode_videos
from .mask import keep_around, pack_mask

_HALF_RANGE = 127.5


def condition_animation(
    model: WanModel,
    reference: Tensor,
    poses: Frames,
    faces: Frames,
    width: int,
    height: int,
    reporter: Reporter,
    scene: Scene | None = None,
    relighting: Relighting | None = None,
    tile_size: int = 0,
    features: Tensor | None = None,
) -> AnimateCondition:
    """Condition a character animation, or a replacement if there is a scene.

    Args:
        model: Animate weights; gives VAE and image encoder.
        reference: [h, w, 3] uint8, the character's picture as it was read.
        poses: T frames [height, width, 3], the skeleton.
        faces: T square frames, the driving face.
        width, height: of the video, multiples of 16.
        reporter: told once per picture.
        scene: what the character is put into.
        relighting: the LoRA that fits it to the scene's light.
        tile_size: 0, 128 or 256 pixels: encode in tiles to save memory.
        features: see `given_features`; None: the image encoder makes them.
    Raises:
        ModelError: the weights are of another variant.
        GeometryError: sizes or lengths do not fit each other.
        InputError: features that do not fit.
    Source: Wan2.2 wan/animate.py, generate.
    """
    expect_animate(model)
    _check_sizes(poses, faces, width, height, scene)
    boxed = letterbox(reference, width, height)
    if features is None:
        embeds = encode_images(model, [boxed.float() / 255], reporter)
    else:
        embeds = given_features(model, features, 1)
    picture = ClipPixels(boxed[None]).as_video()
    (latents,) = encode_videos(model, [picture], reporter, "encode reference", tile_size)
    return AnimateCondition(boxed, latents, embeds, poses, faces, scene, relighting)


def encode_clip(
    model: WanModel,
    condition: AnimateCondition,
    clip: Clip,
    carried: Tensor | None,
    reporter: Reporter,
    tile_size: int = 0,
) -> ClipCondition:
    """Encode what belongs to one clip.

    Args:
        model: gives the VAE.
        condition: of the whole video.
        clip: which frames.
        carried: [clip.carried, H, W, 3] float32 in -1..1, the frames taken over; None for a clip
            that takes over none.
        reporter: told once per latent frame encoded.
        tile_size: see `condition_animation`.
    """
    pose = ClipPixels(_gather(condition.poses, clip.sources))
    given = _given_pixels(condition, clip, carried)
    videos = [pose.as_video(), given.as_video()]
    pose_latents, given_latents = encode_videos(model, videos, reporter, "encode clip", tile_size)
    mask = pack_mask(_known(condition, clip))[None]
    of_clip = torch.cat([mask, given_latents], dim=1)
    of_reference = torch.cat([torch.ones_like(mask[:, :, :1]), condition.reference_latents], dim=1)
    return ClipCondition(
        known=torch.cat([of_reference, of_clip], dim=2),
        pose=pose_latents,
        faces=_face_pixels(condition.faces, clip.sources, model.config["motion_encoder_size"]),
        image_embeds=condition.image_embeds,
    )


class ClipPixels(Sequence[Tensor]):
    """The chunks of 1, 4, 4, ... frames that the VAE encodes, each made when it is asked for.

    Args:
        frames: [4n+1, H, W, 3] uint8. None stands for mid-grey frames.
        known: [r, H, W, 3] float32 in -1..1, put over the first r frames.
        count: number of frames; needed where `frames` is None, which takes its size from
            `size`, (height, width).
    """

    def __init__(
        self,
        frames: Tensor | None,
        known: Tensor | None = None,
        count: int = 0,
        size: tuple[int, int] = (0, 0),
    ) -> None:
        self._frames, self._known = frames, known
        self._count = count if frames is None else len(frames)
        self._size = size if frames is None else tuple(frames.shape[1:3])

    def as_video(self) -> Video:
        """For the VAE. Frames that were taken over are new in every run, others are not."""
        if self._known is not None:
            return Video(self)
        return Video(self, digest(self._frames, torch.tensor([self._count, *self._size])))

    def __len__(self) -> int:
        """Number of chunks, which is that of latent frames."""
        return latent_frames(self._count)

    def __getitem__(self, number: int) -> Tensor:
        """[1, 3, 1 or 4, H, W] float32 in -1..1."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        stop = number * TEMPORAL_STRIDE + 1
        start = max(0, stop - TEMPORAL_STRIDE)
        chunk = self._plain(start, stop)
        if self._known is not None and start < len(self._known):
            known = self._known[start:stop]
            chunk[: len(known)] = known
        return chunk.permute(3, 0, 1, 2)[None]  # t H W c -> 1 c t H W

    def _plain(self, start: int, stop: int) -> Tensor:
        if self._frames is None:
            return torch.zeros(stop - start, *self._size, 3)
        return self._frames[start:stop].float().div_(_HALF_RANGE).sub_(1)


def _given_pixels(condition: AnimateCondition, clip: Clip, carried: Tensor | None) -> ClipPixels:
    if condition.scene is not None:
        return ClipPixels(_gather(condition.scene.background, clip.sources), carried)
    size = condition.height, condition.width
    return ClipPixels(None, carried, len(clip.sources), size)


def _known(condition: AnimateCondition, clip: Clip) -> Tensor:
    """[T, H/8, W/8], 1 = given."""
    if condition.scene is not None:
        known = keep_around(condition.scene.mask[list(clip.sources)])
    else:
        rows, columns = (n // SPATIAL_STRIDE for n in (condition.height, condition.width))
        known = torch.zeros(len(clip.sources), rows, columns)
    known[: clip.carried] = 1
    return known


def _gather(frames: Frames, numbers: Sequence[int]) -> Tensor:
    """[T, H, W, 3] uint8."""
    first = pixels(frames, numbers[0])
    gathered = np.empty((len(numbers), *first.shape), np.uint8)
    for place, number in enumerate(numbers):
        gathered[place] = pixels(frames, number)
    return torch.from_numpy(gathered)


def _face_pixels(faces: Frames, numbers: Sequence[int], size: int) -> Tensor:
    """[T, 3, size, size] float32 in -1..1. Only miniatures have an encoder of another size."""
    gathered = np.stack(
        [letterbox(pixels(faces, n), size, size, size < len(pixels(faces, n))) for n in numbers]
    )
    # T H W c -> T c H W
    return torch.from_numpy(gathered).permute(0, 3, 1, 2).float().div_(_HALF_RANGE).sub_(1)


def _check_sizes(
    poses: Frames, faces: Frames, width: int, height: int, scene: Scene | None
) -> None:
    if width % SIZE_STEP or height % SIZE_STEP or min(width, height) < SIZE_STEP:
        raise GeometryError(
            what=f"The video would be {width}x{height}.",
            why=f"Wan works on multiples of {SIZE_STEP} pixels.",
            fix="Read the driving video with size_mode area, which rounds to that step.",
        )
    lengths = {"pose video": len(poses), "face video": len(faces)}
    sized: dict[str, tuple[int, ...]] = {"pose video": pixels(poses, 0).shape[:2]}
    if scene is not None:
        lengths |= {"background": len(scene.background), "mask": len(scene.mask)}
        sized |= {
            "background": pixels(scene.background, 0).shape[:2],
            "mask": tuple(scene.mask.shape[1:]),
        }
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise GeometryError(
            what=f"The inputs have different numbers of frames: {found}.",
            why="Frame by frame they belong together.",
            fix="Make all of them from the same driving video.",
        )
    for name, found_size in sized.items():
        if found_size != (height, width):
            raise GeometryError(
                what=f"The {name} is {found_size[1]}x{found_size[0]}, and the video will be "
                f"{width}x{height}.",
                why="Pixel by pixel they belong together.",
                fix=f"Resize it to {width}x{height}, or make it from the same driving video.",
            )
