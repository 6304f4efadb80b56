"""The animation miniature: latents of many figures, and a transformer that moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wan.encode.mask import keep_around, pack_mask
from wan.encode.prompt import DEFAULT_NEGATIVE, DEFAULT_PROMPT
from wan.payloads import Variant
from wan.preprocess.mask.shape import block_mask, dilate_mask
from wan.tiny.configs import TRANSFORMERS

from .data import PORTRAIT, SQUARE, Figures, to_tensor
from .image_to_video import CONFIG as I2V_CONFIG
from .image_to_video import image_features, normalised
from .latents import kept
from .puppets import Figure, random_background, random_colours
from .text import Texts
from .transformer import Batch, mix

CONFIG: dict[str, Any] = (
    TRANSFORMERS[Variant.ANIMATE]
    | I2V_CONFIG
    | {"num_layers": 5, "motion_encoder_dim": 32, "face_encoder_hidden_dim": 32}
)
_COLOURINGS = 3
"""Of each stretch of motion: an animation, a replacement, and one of either."""
_CARRIED = (0, 1, 5)
_EMPTY = 0.1
_SAME_SIZE = 0.4
"""Share of driving videos that are as large as the result."""
_BATCH = 16


@dataclass(frozen=True)
class Kind:
    """Clips of one size."""

    stretches: int
    """How many stretches of motion are learnt from, each in `_COLOURINGS` colours."""
    frames: int = 17
    size: tuple[int, int] = PORTRAIT
    share: float = 1.0
    """Of the batches."""

    def scaled(self, factor: float) -> Kind:
        """With fewer or more stretches, at least two."""
        return replace(self, stretches=max(2, round(self.stretches * factor)))


KINDS = (
    Kind(180, share=2),
    Kind(240, frames=9, share=2),
    Kind(30, size=SQUARE, share=0.4),
    Kind(50, frames=9, size=SQUARE, share=0.6),
)


@dataclass(frozen=True)
class Clips:
    """Latents of many clips of one kind. N clips, T latent frames without the reference's."""

    latents: Tensor
    """[N, 16, T+1, H/8, W/8] float16, normalised: the reference picture, then the clip."""
    known: Tensor
    """[N, 20, T+1, H/8, W/8] float16: mask and conditioning latents."""
    pose: Tensor
    """[N, 16, T, H/8, W/8] float16."""
    motion: Tensor
    """[N, frames, 32] float16: of the face, from the motion encoder."""
    image_embeds: Tensor
    """[N, 5, 32] float16."""

    def batches(self, texts: Texts, count: int = _BATCH) -> Callable[[torch.Generator], Batch]:
        """Batches of them by chance, some without the usual prompt."""

        def draw(generator: torch.Generator) -> Batch:
            rows = torch.randint(len(self.latents), (count,), generator=generator)
            chances = torch.rand(count, generator=generator).tolist()
            text, lengths = texts.encode([_prompt(chance) for chance in chances])
            motion = self.motion[rows].float()
            return Batch(
                self.latents[rows].float(),
                self.known[rows].float(),
                text,
                lengths,
                self.image_embeds[rows].float(),
                self.pose[rows].float(),
                motion.transpose(1, 2)[..., None, None],
            )

        return draw


def _prompt(chance: float) -> str:
    if chance < _EMPTY / 2:
        return ""
    texts = DEFAULT_NEGATIVE if chance < _EMPTY else DEFAULT_PROMPT
    return texts[Variant.ANIMATE]


class Motions(nn.Module):
    """Stands in for the motion encoder while the rest learns: features that are known already."""

    def forward(self, features: Tensor) -> Tensor:
        """[frames, 32] of [frames, 32, 1, 1]."""
        return features.flatten(1)


def make() -> nn.Module:
    """The transformer with stock weights."""
    from diffusers import WanAnimateTransformer3DModel

    return WanAnimateTransformer3DModel(**CONFIG)


def clips_of(
    kind: Kind,
    figures: Figures,
    parts: tuple[nn.Module, nn.Module, nn.Module],
    seed: int,
    store: Path | None = None,
) -> Clips:
    """Paint and encode.

    Args:
        kind: of which size and how many.
        figures: of that size.
        parts: the trained autoencoder, the image encoder and the motion encoder.
        seed: of stretches, colours and masks.
        store: a folder in which the latents are kept between runs; None: nowhere.
    """
    width, height = kind.size
    name = f"animation-{seed}-{kind.stretches}-{kind.frames}-{width}x{height}"

    def encode() -> Clips:
        generator = np.random.default_rng(seed)
        made = [
            clip
            for _ in range(kind.stretches)
            for clip in _paint_and_encode(kind, figures, parts, generator)
        ]
        return Clips(*(torch.cat(column).half() for column in zip(*made, strict=True)))

    return kept(store, name, parts[0], Clips, encode)


@torch.no_grad()
def _paint_and_encode(
    kind: Kind,
    figures: Figures,
    parts: tuple[nn.Module, nn.Module, nn.Module],
    generator: np.random.Generator,
) -> list[tuple[Tensor, ...]]:
    vae, image_encoder, motion_encoder = parts
    whole = figures.whole(int(generator.integers(len(figures))))
    first = int(generator.integers(whole.frames - kind.frames + 1))
    figure = whole.cut(first, kind.frames)
    other = whole.cut(int(generator.integers(whole.frames)), 1)
    faces = torch.from_numpy(figure.faces).permute(0, 3, 1, 2).float() / 127.5 - 1
    motion = motion_encoder(faces)[None]
    samples = [_paint(kind, figure, other, generator, is_new) for is_new in (True, False, None)]
    scale = 1.0 if generator.random() < _SAME_SIZE else generator.uniform(2, 5)
    clips = [to_tensor(figure.poses(scale))]
    for sample in samples:
        clips += [sample.target, sample.given]
    pose, *encoded = normalised(vae, torch.cat(clips)).split(1)
    references = normalised(vae, torch.cat([s.reference for s in samples])).split(1)
    result = []
    for number, sample in enumerate(samples):
        target, given = encoded[2 * number : 2 * number + 2]
        reference = references[number]
        clip = torch.cat([sample.mask[None], given], dim=1)
        ones = torch.ones_like(sample.mask[None, :, :1])
        known = torch.cat([torch.cat([ones, reference], dim=1), clip], dim=2)
        picture = (sample.reference[0, :, 0].permute(1, 2, 0) + 1) / 2
        embeds = image_features(image_encoder, picture)
        latents = torch.cat([reference, target], dim=2)
        result.append((latents, known, pose, motion, embeds))
    return result


@dataclass(frozen=True)
class _Sample:
    target: Tensor
    given: Tensor
    """What the clip is conditioned on, [1, 3, T, H, W] in -1..1."""
    mask: Tensor
    """[4, T, H/8, W/8]."""
    reference: Tensor
    """[1, 3, 1, H, W]."""


def _paint(
    kind: Kind,
    figure: Figure,
    other: Figure,
    generator: np.random.Generator,
    is_animation: bool | None,
) -> _Sample:
    if is_animation is None:
        is_animation = bool(generator.random() < 0.5)
    colours = random_colours(generator)
    background = random_background(generator, *kind.size)
    target = to_tensor(figure.paint(colours, background))
    carried = int(generator.choice(_CARRIED))
    if is_animation:
        reference = to_tensor(other.paint(colours, background))
        given, known = torch.zeros_like(target), torch.zeros(kind.frames, *_latent(kind))
    else:
        own = random_background(generator, *kind.size)
        reference = to_tensor(other.paint(colours, own))
        mask = _grown(figure, generator)
        given = torch.where(mask.bool()[None, None], -1.0, target)
        known = keep_around(mask)
    given[:, :, :carried] = target[:, :, :carried]
    known[:carried] = 1
    return _Sample(target, given, pack_mask(known), reference)


def _latent(kind: Kind) -> tuple[int, int]:
    return kind.size[1] // 8, kind.size[0] // 8


def _grown(figure: Figure, generator: np.random.Generator) -> Tensor:
    """[T, H, W] uint8: the silhouette, grown and made blocky as much as chance will have it."""
    mask = torch.from_numpy(figure.silhouettes.astype(np.uint8))
    mask = dilate_mask(mask, 3, int(generator.integers(1, 11)))
    cells = int(generator.choice((1, 1, 2, 4)))
    return block_mask(mask, cells, cells)


def all_clips(
    figures: dict[tuple[int, int], Figures],
    parts: tuple[nn.Module, nn.Module, nn.Module],
    texts: Texts,
    seed: int,
    scale: float = 1.0,
    store: Path | None = None,
) -> Callable[[torch.Generator], Batch]:
    """Batches of all kinds."""
    groups = []
    for number, kind in enumerate(KINDS):
        clips = clips_of(kind.scaled(scale), figures[kind.size], parts, seed + number, store)
        groups.append((kind.share, clips.batches(texts)))
    return mix(groups)
