"""What an image-to-video run knows of its frames: the first one, and perhaps the last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import LatentShape, fit_area, latent_shape
from ..media.picture import cover_picture, resize_picture
from ..memo import digest
from ..payloads import ImageCondition, Variant, WanModel
from ..progress import Reporter
from .given import given_features
from .image import encode_images
from .latents import Video, encode_videos
from .mask import pack_mask

# Areas that the weights were trained at: Wan2.1 wan/configs/__init__.py.
_AREAS = {"480p": 832 * 480, "720p": 1280 * 720}
# Beyond this ratio results visibly suffer; 832x480 to 1024x576 is 1.5.
_FAR = 1.6
_SHORTEST_WITH_END = 5
EXTRA_LATENT_CHOICES = ("auto", "on", "off")
SIZE_MODES = ("area, keep aspect", "exact, centre crop")


@dataclass(frozen=True)
class EndFrame:
    """The picture a video should end on."""

    picture: Tensor
    """[H, W, 3 or more] in 0..1, of any size; covered and cropped to the video's."""
    extra_latent: str = "auto"
    """"on": it is encoded alone as one more latent frame, whose frame is dropped after decoding;
    what plain I2V weights need. "off": it is the last frame itself, as FLF2V and Fun-InP weights
    were trained. "auto" decides by the weights."""


@dataclass(frozen=True)
class _Plan:
    """Where the given frames go."""

    shape: LatentShape
    first: Tensor
    """[1, 3, 1, H, W] in -1..1."""
    end: Tensor | None
    """Likewise."""
    has_end_latent: bool


def frame_mask(num_frames: int, has_end: bool, has_end_latent: bool) -> Tensor:
    """Mask channels of a video whose first frame, and perhaps its last, is given.

    Args:
        num_frames: 4n+1.
        has_end: whether an end frame is given.
        has_end_latent: whether it has a latent frame of its own.
    Returns:
        [4, T] of 0 and 1, T = n+1 or n+2.
    """
    known = torch.zeros(num_frames)
    known[0] = 1
    if has_end and not has_end_latent:
        known[-1] = 1
    mask = pack_mask(known)
    return torch.cat([mask, torch.ones(4, 1)], dim=1) if has_end_latent else mask


def condition_on_image(
    model: WanModel,
    picture: Tensor,
    width: int,
    height: int,
    num_frames: int,
    reporter: Reporter,
    end: EndFrame | None = None,
    tile_size: int = 0,
    features: Tensor | None = None,
) -> ImageCondition:
    """Condition a video on its first frame and perhaps its last; others are mid-grey.

    Args:
        model: I2V or FLF2V weights; gives VAE and image encoder.
        picture: [H, W, 3 or more] in 0..1; resized to width x height, cropped if the aspect
            differs by more than rounding.
        width, height: of the video, multiples of 16.
        num_frames: 4n+1.
        reporter: told once per latent frame encoded.
        end: the end frame.
        tile_size: 0, 128 or 256 pixels: encode in tiles to save memory.
        features: see `given_features`; None: the image encoder makes them.
    Raises:
        GeometryError: size or frames do not fit.
        InputError: the weights are of another variant, there is no room for an end frame, or
            features do not fit.
    """
    shape = latent_shape(width, height, num_frames)
    _check(model, num_frames, end, reporter)
    has_end_latent = end is not None and needs_end_latent(model, end.extra_latent)
    pictures = _clip_pictures(model, picture, end)
    if features is None:
        embeds = encode_images(model, pictures, reporter)
    else:
        embeds = given_features(model, features, len(pictures))
    plan = _Plan(
        shape,
        _frame(picture, width, height),
        _frame(end.picture, width, height) if end else None,
        has_end_latent,
    )
    content = digest(plan.first, plan.end, torch.tensor([num_frames, has_end_latent]))
    video = Video(list(_chunks(plan)), content)
    (latents,) = encode_videos(model, [video], reporter, "encode frames", tile_size)
    mask = frame_mask(num_frames, end is not None, has_end_latent)[None, :, :, None, None]
    return ImageCondition(
        latents=latents,
        mask=mask.expand(-1, -1, -1, shape.height, shape.width).contiguous(),
        image_embeds=embeds,
        width=width,
        height=height,
        num_frames=num_frames,
        variant=model.variant,
        has_end_latent=has_end_latent,
    )


def needs_end_latent(model: WanModel, choice: str) -> bool:
    """Whether an end frame gets a latent frame of its own.

    Args:
        choice: "on", "off", or "auto": on for plain I2V weights, off for those trained with an
            end frame (FLF2V by their position embedding, Fun-InP by their name).
    """
    if choice not in EXTRA_LATENT_CHOICES:
        raise InputError(
            what=f"add_frames_for_end_image is {choice!r}.",
            why="It says where the end frame goes.",
            fix=f"Use one of: {', '.join(EXTRA_LATENT_CHOICES)}.",
        )
    if choice == "auto":
        is_inpainting = "inp" in model.name.lower().replace("-", "_").split("_")
        return model.variant is Variant.I2V and not is_inpainting
    return choice == "on"


def video_size(
    picture: Tensor, width: int, height: int, mode: str = SIZE_MODES[0]
) -> tuple[int, int]:
    """Size of the video.

    Args:
        picture: [H, W, C], the first frame.
        width, height: pixels.
        mode: the first of `SIZE_MODES` takes them as an area and keeps the picture's aspect, the
            second takes them as they are.
    Returns:
        (width, height), multiples of 16.
    Raises:
        InputError: another mode.
        GeometryError: an exact size off the step of 16, or a side of zero.
    """
    if mode not in SIZE_MODES:
        raise InputError(
            what=f"size_mode is {mode!r}.",
            why="It says what width and height mean.",
            fix=f"Use one of: {' / '.join(SIZE_MODES)}.",
        )
    if mode == SIZE_MODES[0]:
        return fit_area(picture.shape[1], picture.shape[0], width * height)
    latent_shape(width, height, 1)
    return width, height


def area_advice(model: WanModel, width: int, height: int) -> str | None:
    """A warning if the size is far from what the weights were trained at, or None."""
    is_large = model.variant is Variant.FLF2V or "720p" in model.name.lower()
    trained = "720p" if is_large else "480p"
    if not is_large and "480p" not in model.name.lower():
        return None
    ratio = width * height / _AREAS[trained]
    if 1 / _FAR <= ratio <= _FAR:
        return None
    usual = "1280x720" if is_large else "832x480"
    return (
        f"{width}x{height} is {ratio:.1f} times the area that {model.name} was trained at; "
        f"{usual} suits it better"
    )


def _check(model: WanModel, num_frames: int, end: EndFrame | None, reporter: Reporter) -> None:
    if model.variant is Variant.ANIMATE:
        raise InputError(
            what=f"{model.name!r} is made for {model.variant.value}.",
            why="Image to video needs weights that were trained for it.",
            fix="Choose Wan 2.1 I2V weights in Wan Model Loader.",
        )
    if end is not None and num_frames < _SHORTEST_WITH_END:
        raise InputError(
            what=f"num_frames is {num_frames}, with an end frame.",
            why="There is no room between the first and the end frame.",
            fix=f"Use {_SHORTEST_WITH_END} frames or more, or leave the end frame out.",
        )
    if end is None and model.variant is Variant.FLF2V:
        reporter.note(
            f"{model.name} was trained with an end frame; without one the first image is shown "
            "to it twice"
        )


def _frame(picture: Tensor, width: int, height: int) -> Tensor:
    covered = cover_picture(picture, width, height)
    return resize_picture(covered, width, height)[None, :, None]  # C H W -> 1 C 1 H W


def _clip_pictures(model: WanModel, picture: Tensor, end: EndFrame | None) -> list[Tensor]:
    # FLF2V weights expect the tokens of two images, plain I2V weights those of one.
    if model.variant is not Variant.FLF2V:
        return [picture]
    return [picture, end.picture if end else picture]


def _chunks(plan: _Plan) -> Iterator[Tensor]:
    """The video one chunk per latent frame; a single frame begins a video of its own."""
    yield plan.first
    unknown = torch.zeros(1, 3, 4, *plan.first.shape[-2:])
    count = plan.shape.frames - 1
    for index in range(count):
        if index == count - 1 and plan.end is not None and not plan.has_end_latent:
            yield torch.cat([unknown[:, :, :3], plan.end], dim=2)
        else:
            yield unknown
    if plan.end is not None and plan.has_end_latent:
        yield plan.end
