"""What travels between the stages: small named records, never bare dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from .geometry import LatentShape, latent_shape

if TYPE_CHECKING:
    from .residency import Part


class Variant(str, Enum):
    """Kind of Wan transformer, read from its weights."""

    I2V = "image to video"
    """Wan 2.1 I2V: 36 input channels and image tokens."""
    FLF2V = "first and last frame to video"
    """Wan 2.1 FLF2V: I2V plus position embeddings for two images."""
    ANIMATE = "character animation"
    """Wan 2.2 Animate: I2V plus pose embedding, motion encoder and face adapters."""


class Tokenizer(Protocol):
    """Turns a prompt into the ids the text encoder was trained on."""

    def encode(self, text: str, max_length: int) -> list[int]:
        """At most `max_length` ids, the last of them always the end-of-text id."""
        ...


@dataclass(frozen=True)
class WanModel:
    """A Wan model with everything it needs to run. Parts are read from disk on first use."""

    name: str
    """File or folder name as the user knows it; also tells 480p from 720p weights."""
    variant: Variant
    config: dict[str, Any]
    """Constructor arguments of the transformer, derived from its tensors."""
    transformer: Part[Any]
    vae: Part[Any]
    text_encoder: Part[Any]
    image_encoder: Part[Any]
    tokenizer: Tokenizer
    is_tiny: bool = False
    """True for the random miniatures: their pictures are noise by nature."""


@dataclass(frozen=True)
class TextEmbeds:
    """An encoded prompt pair."""

    positive: Tensor
    """[1, 512, text_dim] float32 on the CPU; zero after the last token."""
    negative: Tensor | None
    """Same shape; of the negative prompt or its default. None where no guidance was wanted."""


@dataclass(frozen=True)
class ImageCondition:
    """What an image-to-video run is conditioned on, beside the text."""

    latents: Tensor
    """[1, 16, T, H/8, W/8] float32 on the CPU: normalised VAE latents of the frames given."""
    mask: Tensor
    """[1, 4, T, H/8, W/8] float32: 1 = pixels of this latent frame are given."""
    image_embeds: Tensor
    """[images, tokens, image_dim] float32: image encoder features, first image first."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_frames: int
    """Frames of the finished video, 4n+1."""
    variant: Variant
    """The kind of weights it was made for."""
    has_end_latent: bool = False
    """Whether a latent frame of its own, behind those of the video, holds the end frame."""

    @property
    def shape(self) -> LatentShape:
        """Latents to sample, the end frame's own one included."""
        video = latent_shape(self.width, self.height, self.num_frames)
        return replace(video, frames=video.frames + 1) if self.has_end_latent else video


@dataclass(frozen=True)
class SampleReport:
    """What a sampling run did."""

    forwards: int
    """Passes through the transformer's blocks, both guidance branches counted."""
    skipped: int
    """Passes that a cache saved."""
    attention: str
    """The attention kernel that ran: "sdpa" or "sage"."""
    cache: str = ""
    """The cache's plan in words: threshold and expected gain, or why nothing was skipped."""

    def describe(self) -> str:
        """One line for the user."""
        whole = self.forwards + self.skipped
        line = f"{self.forwards} of {whole} forwards run, attention {self.attention}"
        return f"{line}; {self.cache}" if self.cache else line


@dataclass(frozen=True)
class VideoLatents:
    """A sampled video before decoding."""

    latents: Tensor
    """[1, 16, T, H/8, W/8] float32 on the CPU; the latent frame of an end frame, which is not
    part of the video, may follow behind."""
    num_frames: int
    """Frames after decoding."""
    seed: int
    """The seed that was used; drawn if -1 was asked for."""
    report: SampleReport | None = None
    """What was computed and skipped."""
