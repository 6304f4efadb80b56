"""Image encoder features: the CLIP vision tokens that the cross-attention looks at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..memo import digest
from ..payloads import WanModel
from ..progress import Reporter, phase
from ..shortage import within_memory

_WORK_BYTES = 200_000_000
"""Activations of 257 tokens, generously."""

# open-clip ViT-H/14: Wan2.1 wan/modules/clip.py.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def encode_images(model: WanModel, pictures: Sequence[Tensor], reporter: Reporter) -> Tensor:
    """Features of whole pictures, each squashed to a square without cropping.

    Args:
        model: gives the image encoder.
        pictures: each [H, W, 3 or more] in 0..1, of any size.
        reporter: told once per picture that this model has not encoded before.
    Returns:
        [pictures, tokens, image_dim] float32 on the CPU; 257 tokens with the real encoder.
    Source: Wan2.1 wan/modules/clip.py, the last but one layer of the vision tower.
    """
    memo = model.image_encoder.memo
    keys = [digest(picture) for picture in pictures]
    found = {key: memo.find(key) for key in keys}
    new = {key: p for key, p in zip(keys, pictures, strict=True) if found[key] is None}
    if new:
        made = within_memory(
            lambda: _encode_all(model, list(new.values()), reporter),
            model.image_encoder,
            lambda: _WORK_BYTES,
            reporter,
        )
        found |= {key: memo.keep(key, features) for key, features in zip(new, made, strict=True)}
    return torch.cat([found[key] for key in keys])  # type: ignore[misc]


def _encode_all(model: WanModel, pictures: Sequence[Tensor], reporter: Reporter) -> list[Tensor]:
    with (
        phase(reporter, "encode image", len(pictures)) as advance,
        model.image_encoder.on_device(_WORK_BYTES) as encoder,
        torch.inference_mode(),
    ):
        weight = next(encoder.parameters())
        features: list[Tensor] = []
        for picture in pictures:
            pixels = squash(picture, encoder.config.image_size)
            output = encoder(pixels.to(weight.device, weight.dtype), output_hidden_states=True)
            features.append(output.hidden_states[-2].to("cpu", torch.float32))
            advance()
        return features


def squash(picture: Tensor, side: int) -> Tensor:
    """The encoder's input: [1, 3, side, side], normalised by the CLIP mean and deviation.

    Bicubic without antialiasing, because the reference resizes so.
    """
    pixels = picture[..., :3].float().permute(2, 0, 1)[None]  # H W C -> 1 C H W
    # Interpolated at -1..1 and scaled back as the reference does it: bicubic overshoots alike,
    # only rounding differs.
    pixels = functional.interpolate(
        pixels * 2 - 1, size=(side, side), mode="bicubic", align_corners=False
    )
    mean = torch.tensor(_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(_STD).view(1, 3, 1, 1)
    return (pixels * 0.5 + 0.5 - mean) / std
