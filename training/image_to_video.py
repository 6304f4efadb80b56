"""The image-to-video miniature: latents of many scenes, and a transformer that continues them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wan.encode.condition import frame_mask
from wan.encode.image import squash
from wan.encode.prompt import DEFAULT_NEGATIVE
from wan.latents import latent_statistics
from wan.payloads import Variant
from wan.tiny.configs import TRANSFORMERS

from . import autoencoder
from .data import to_tensor
from .latents import kept
from .scenes import JUMP, TEMPLATES, Scene, draw_scene, moving_so, render, with_motion
from .text import Texts
from .transformer import Batch, mix

CONFIG: dict[str, Any] = TRANSFORMERS[Variant.I2V] | {
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "text_dim": 64,
    "freq_dim": 256,
    "ffn_dim": 512,
    "num_layers": 4,
    "added_kv_proj_dim": 128,
}
NO_END, OWN_END, LAST_END = "none", "own latent frame", "last frame"
_EMPTY = 0.1  # share of captions that are left out, for guidance
_BATCH = 32


@dataclass(frozen=True)
class Kind:
    """Clips of one size."""

    first_frames: int
    """How many pictures are continued, each in `_WAYS` ways."""
    frames: int = 9
    side: int = 64
    end: str = NO_END
    share: float = 1.0
    """Of the batches."""
    jumps: bool = False
    """What the LoRA learns, in place of all other motions."""

    def scaled(self, factor: float) -> Kind:
        """With fewer or more pictures, at least two."""
        return replace(self, first_frames=max(2, round(self.first_frames * factor)))


KINDS = (
    Kind(1300, share=5),
    Kind(330, frames=17, share=2),
    Kind(160, end=OWN_END, share=0.8),
    Kind(80, end=LAST_END, share=0.4),
    Kind(60, frames=17, end=OWN_END, share=0.4),
    Kind(240, side=96, share=1.2),
    Kind(60, frames=17, side=96, share=0.5),
)
_WAYS = 5
JUMPS = Kind(700, jumps=True)
"""What the LoRA is trained on."""


@dataclass(frozen=True)
class Clips:
    """Latents of many clips of one kind. N clips, T latent frames, H and W in latent pixels."""

    latents: Tensor
    """[N, 16, T, H, W] float16, normalised."""
    known: Tensor
    """[N, 20, T, H, W] float16: mask and conditioning latents."""
    image_embeds: Tensor
    """[N, 5, 32] float16."""
    captions: list[str]

    def batches(self, texts: Texts, count: int = _BATCH) -> Callable[[torch.Generator], Batch]:
        """Batches of them by chance, some without caption."""

        def draw(generator: torch.Generator) -> Batch:
            rows = torch.randint(len(self.captions), (count,), generator=generator)
            chances = torch.rand(count, generator=generator).tolist()
            captions = [
                _without(chance) if chance < _EMPTY else self.captions[row]
                for row, chance in zip(rows.tolist(), chances, strict=True)
            ]
            text, lengths = texts.encode(captions)
            return Batch(
                self.latents[rows].float(),
                self.known[rows].float(),
                text,
                lengths,
                self.image_embeds[rows].float(),
            )

        return draw


def _without(chance: float) -> str:
    return "" if chance < _EMPTY / 2 else DEFAULT_NEGATIVE[Variant.I2V]


def make() -> nn.Module:
    """The transformer with stock weights."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(**CONFIG)


def clips_of(
    kind: Kind, vae: nn.Module, image_encoder: nn.Module, seed: int, store: Path | None = None
) -> Clips:
    """Draw and encode.

    Args:
        kind: of which size and how many.
        vae: trained, from `autoencoder.at_once`, its statistics folded in.
        image_encoder: of the miniature.
        seed: of the scenes.
        store: a folder in which the latents are kept between runs; None: nowhere.
    """
    what = "jumps" if kind.jumps else kind.end.split()[0]
    name = f"scenes-{seed}-{kind.first_frames}-{kind.frames}-{kind.side}-{what}"
    return kept(store, name, vae, Clips, lambda: _encode_all(kind, vae, image_encoder, seed))


def _encode_all(kind: Kind, vae: nn.Module, image_encoder: nn.Module, seed: int) -> Clips:
    generator = np.random.default_rng(seed)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    captions: list[str] = []
    for _ in range(kind.first_frames):
        scene = draw_scene(generator, kind.frames, kind.side)
        if kind.jumps:
            template = int(generator.integers(len(TEMPLATES)))
            ways = [moving_so(scene, JUMP, "fast", template)]
        else:
            ways = [with_motion(generator, scene, 0.08) for _ in range(_WAYS)]
        captions += [way.caption for way in ways]
        parts.append(_encode(kind, vae, image_encoder, ways))
    latents, known, embeds = (torch.cat(tensors).half() for tensors in zip(*parts, strict=True))
    return Clips(latents, known, embeds, captions)


@torch.no_grad()
def _encode(
    kind: Kind, vae: nn.Module, image_encoder: nn.Module, ways: list[Scene]
) -> tuple[Tensor, Tensor, Tensor]:
    videos = torch.cat([to_tensor(render(way)) for way in ways])
    given = torch.zeros_like(videos)
    given[:, :, :1] = videos[:, :, :1]
    if kind.end == LAST_END:
        given[:, :, -1:] = videos[:, :, -1:]
    else:
        given = given[:1]  # the same for all
    latents, conditions = normalised(vae, torch.cat([videos, given])).split(
        [len(videos), len(given)]
    )
    conditions = conditions.expand(len(videos), -1, -1, -1, -1)
    if kind.end == OWN_END:
        ends = normalised(vae, videos[:, :, -1:])
        latents, conditions = (torch.cat([x, ends], dim=2) for x in (latents, conditions))
    mask = frame_mask(kind.frames, kind.end != NO_END, kind.end == OWN_END)
    mask = mask[None, :, :, None, None].expand(len(videos), -1, -1, *latents.shape[3:])
    picture = (videos[0, :, 0].permute(1, 2, 0) + 1) / 2
    embeds = image_features(image_encoder, picture).expand(len(videos), -1, -1)
    return latents, torch.cat([mask, conditions], dim=1), embeds


def normalised(vae: nn.Module, clips: Tensor) -> Tensor:
    """Latents of clips [B, 3, T, H, W], of mean 0 and deviation 1; on the CPU, as the clips are."""
    mean, std = latent_statistics(vae)
    device = autoencoder.device_of(vae)
    clips = clips.contiguous(memory_format=torch.channels_last_3d).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        latents = autoencoder.encode(vae, clips)[0]
    return (latents.float().cpu() - mean) / std


@torch.no_grad()
def image_features(image_encoder: nn.Module, picture: Tensor) -> Tensor:
    """[1, 5, 32] of a picture [H, W, 3] in 0..1."""
    pixels = squash(picture, image_encoder.config.image_size)
    return image_encoder(pixels, output_hidden_states=True).hidden_states[-2]


def all_clips(
    vae: nn.Module,
    image_encoder: nn.Module,
    texts: Texts,
    seed: int,
    scale: float = 1.0,
    store: Path | None = None,
) -> Callable[[torch.Generator], Batch]:
    """Batches of all kinds; a kind's scenes differ from another's."""
    groups = []
    for number, kind in enumerate(KINDS):
        clips = clips_of(kind.scaled(scale), vae, image_encoder, seed + number, store)
        groups.append((kind.share, clips.batches(texts)))
    return mix(groups)
