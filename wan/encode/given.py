"""Texts and pictures that somebody else has encoded with the same encoders."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..geometry import TEXT_TOKENS
from ..payloads import TextEmbeds, WanModel

Encoded = tuple[Tensor, Tensor | None]
"""Features [1, tokens, width] of a text, and perhaps its mask [1, tokens], 1 = belongs to it."""


def given_texts(model: WanModel, positive: Encoded, negative: Encoded | None) -> TextEmbeds:
    """An encoded prompt pair as the samplers take it.

    Args:
        model: whose transformer will read them.
        positive, negative: up to 512 tokens; filled up with zeros.
    Raises:
        InputError: features of another text encoder, too many tokens, or several texts.
    """
    texts = [_padded(model, text) for text in (positive, negative) if text is not None]
    return TextEmbeds(texts[0], texts[1] if negative is not None else None)


def _padded(model: WanModel, text: Encoded) -> Tensor:
    features, mask = text
    width, found = model.config["text_dim"], tuple(features.shape)
    if len(found) != 3 or found[0] != 1 or found[1] > TEXT_TOKENS or found[2] != width:
        raise InputError(
            what=f"The encoded text has the shape {list(found)}.",
            why=f"{model.name!r} reads one text of at most {TEXT_TOKENS} tokens with {width} "
            "features each, as UMT5-XXL gives them.",
            fix="Encode one prompt with CLIP Text Encode and a CLIP that was loaded as type wan.",
        )
    features = features.to("cpu", torch.float32)
    if mask is not None:
        features = features * mask.reshape(1, -1, 1).to(features)
    return functional.pad(features, (0, 0, 0, TEXT_TOKENS - features.shape[1]))


def given_features(model: WanModel, features: Tensor, pictures: int) -> Tensor:
    """Features of pictures as the transformer takes them.

    Args:
        model: whose transformer will read them.
        features: [pictures, tokens, width] of the last but one layer of CLIP's vision tower.
        pictures: how many are wanted.
    Returns:
        The same, float32 on the CPU.
    Raises:
        InputError: features of another encoder, or of more or fewer pictures.
    """
    width, found = model.config["image_dim"], tuple(features.shape)
    if len(found) != 3 or found[0] != pictures or found[2] != width:
        raise InputError(
            what=f"The encoded picture has the shape {list(found)}.",
            why=f"{model.name!r} reads {pictures} picture{'s' if pictures > 1 else ''} of tokens "
            f"with {width} features each, as CLIP ViT-H gives them.",
            fix="Encode the picture with CLIP Vision Encode and clip_vision_h; first and end frame "
            "of FLF2V weights as one batch of two.",
        )
    return features.to("cpu", torch.float32)
