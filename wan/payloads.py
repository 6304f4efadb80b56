"""What travels between the stages: small named records, never bare dictionaries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .errors import ModelError
from .geometry import LatentShape, latent_shape
from .media.sequence import Frames

if TYPE_CHECKING:
    from .residency import Part


MINIATURE_NOTICE = "Made by a miniature, to try the pack: this is no measure of Wan's quality."


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
    is_miniature: bool = False
    """Whether it is too small to be one of the real models: something to try the pack with."""
    identity: tuple[Any, ...] = ()
    """What the files were when they were found: equal only if they are."""
    decode_dtype: torch.dtype = torch.float32
    """What the VAE may decode in. It encodes in float32 always: half precision there moves what the
    transformer begins from."""

    @property
    def notice(self) -> str:
        """Said wherever its results are shown; "" of the real models."""
        return MINIATURE_NOTICE if self.is_miniature else ""


def expect_animate(model: WanModel) -> None:
    """Refuse weights that cannot animate a character.

    Raises:
        ModelError: the model is of another variant.
    """
    if model.variant is not Variant.ANIMATE:
        raise ModelError(
            what=f"{model.name!r} is made for {model.variant.value}.",
            why="Character animation needs weights with a pose embedding and a face adapter.",
            fix="Choose Wan 2.2 Animate weights in Wan Model Loader.",
        )


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


class Mode(str, Enum):
    """What becomes of the driving video in a character animation."""

    ANIMATION = "animation"
    """The reference picture moves like the person in the driving video."""
    REPLACEMENT = "replacement"
    """The character takes the person's place in the driving video."""


@dataclass(frozen=True)
class Scene:
    """What a character is put into."""

    background: Frames
    """T frames [H, W, 3] uint8, black where the person was."""
    mask: Tensor
    """[T, H, W] uint8, 1 = what is to be made anew."""


@dataclass(frozen=True)
class Relighting:
    """The LoRA that fits a character to the light of a scene."""

    path: Path
    """Its file."""
    strength: float = 1.0
    """0 leaves the weights as they are."""


@dataclass(frozen=True)
class AnimateCondition:
    """What a character animation of any length is conditioned on, beside the text.

    The frames are made when their clip is sampled.
    """

    reference: Tensor
    """[H, W, 3] uint8: the character, letterboxed to the size of the video."""
    reference_latents: Tensor
    """[1, 16, 1, H/8, W/8] float32 on the CPU: normalised VAE latents of it."""
    image_embeds: Tensor
    """[1, tokens, image_dim] float32: image encoder features of it."""
    poses: Frames
    """T frames [H, W, 3] uint8: the skeleton."""
    faces: Frames
    """T square frames uint8: the driving face, 512 x 512."""
    scene: Scene | None = None
    """For replacement."""
    relighting: Relighting | None = None
    """For replacement."""

    @property
    def mode(self) -> Mode:
        """Told by whether there is a scene."""
        return Mode.ANIMATION if self.scene is None else Mode.REPLACEMENT

    @property
    def num_frames(self) -> int:
        """Frames of the driving video, T."""
        return len(self.poses)

    @property
    def width(self) -> int:
        """Pixels."""
        return self.reference.shape[1]

    @property
    def height(self) -> int:
        """Pixels."""
        return self.reference.shape[0]


@dataclass(frozen=True)
class ClipCondition:
    """What one clip of a character animation is conditioned on, encoded."""

    known: Tensor
    """[1, 20, n+2, H/8, W/8] float32 on the CPU: mask (1 = given) and latents, of the reference
    picture first and then of the clip's 4n+1 frames."""
    pose: Tensor
    """[1, 16, n+1, H/8, W/8] float32 on the CPU: normalised VAE latents of the skeleton."""
    faces: Tensor
    """[4n+1, 3, size, size] float32 in -1..1, in the size of the model's motion encoder."""
    image_embeds: Tensor
    """[1, tokens, image_dim] float32."""


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
