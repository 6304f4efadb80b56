"""First-frame conditioning: what an image-to-video run knows about its frames."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..errors import InputError
from ..geometry import LatentShape, fit_area, latent_shape
from ..memory import vae_encode_bytes
from ..payloads import ImageCondition, Variant, WanModel
from ..progress import Reporter, phase
from .image import encode_images
from .latents import encode_chunks
from .picture import resize_picture


def pack_frame_mask(known: Tensor) -> Tensor:
    """Pack one flag per frame into the four mask channels of Wan's latents.

    Args:
        known: [T], 1 = this frame is given, T = 4n+1.
    Returns:
        [4, n+1]: frame 0 fills all four rows of latent 0, frame f > 0 lands at row (f+3) mod 4
        of latent (f+3) div 4.
    Source: Wan2.1 wan/image2video.py.
    """
    return torch.cat([known[:1].repeat(4), known[1:]]).view(-1, 4).T


def condition_on_image(
    model: WanModel,
    picture: Tensor,
    width: int,
    height: int,
    num_frames: int,
    reporter: Reporter,
) -> ImageCondition:
    """Condition a video on its first frame; the others are unknown (mid-grey).

    Args:
        model: I2V or FLF2V weights; gives VAE and image encoder.
        picture: [H, W, 3 or more] in 0..1, of any size; resized to width x height.
        width, height: of the video, multiples of 16.
        num_frames: 4n+1.
        reporter: told once per latent frame encoded.
    Raises:
        GeometryError: size or frames do not fit.
        InputError: the weights are of another variant.
    """
    shape = latent_shape(width, height, num_frames)
    if model.variant is Variant.ANIMATE:
        raise InputError(
            what=f"{model.name!r} is made for {model.variant.value}.",
            why="Image to video needs weights that were trained for it.",
            fix="Choose Wan 2.1 I2V weights in Wan Model Loader.",
        )
    image_embeds = encode_images(model, _clip_pictures(model, picture), reporter)
    first = resize_picture(picture, width, height)[None, :, None]  # C H W -> 1 C 1 H W
    with (
        phase(reporter, "encode first frame", shape.frames) as advance,
        model.vae.on_device(vae_encode_bytes(width, height)) as vae,
    ):
        latents = encode_chunks(vae, _chunks(first, shape, advance), reporter)
    known = torch.zeros(num_frames)
    known[0] = 1
    mask = pack_frame_mask(known)[None, :, :, None, None]
    return ImageCondition(
        latents=latents,
        mask=mask.expand(-1, -1, -1, shape.height, shape.width).contiguous(),
        image_embeds=image_embeds,
        width=width,
        height=height,
        num_frames=num_frames,
        variant=model.variant,
    )


def video_size(picture: Tensor, width: int, height: int) -> tuple[int, int]:
    """Size of the video when `width` x `height` is taken as an area and the picture's aspect kept.

    Args:
        picture: [H, W, C].
    Returns:
        (width, height), multiples of 16.
    """
    return fit_area(picture.shape[1], picture.shape[0], width * height)


def _clip_pictures(model: WanModel, picture: Tensor) -> list[Tensor]:
    # Weights for first and last frame expect the tokens of two images.
    return [picture, picture] if model.variant is Variant.FLF2V else [picture]


def _chunks(first: Tensor, shape: LatentShape, advance) -> Iterator[Tensor]:  # noqa: ANN001
    yield first
    unknown = torch.zeros(1, 3, 4, *first.shape[-2:])
    for _ in range(shape.frames - 1):
        advance()
        yield unknown
    advance()
