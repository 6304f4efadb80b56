"""What both transformers of the miniature share: how they begin and what they learn.

Flow matching: between clean latents and noise, at a share of noise that is high more often than
low, the transformer says the way from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from .autoencoder import device_of
from .loop import Course, Run
from .short_text import pad_bias, shorten

LEARNING_RATE = 2e-3
_SHIFT = 3.0


@dataclass(frozen=True)
class Batch:
    """What a transformer learns from in one step. B clips of one size."""

    latents: Tensor
    """[B, 16, T, H/8, W/8]: what should come out, normalised."""
    known: Tensor
    """[B, 20, T, H/8, W/8]: mask and conditioning latents."""
    text: Tensor
    """[B, tokens, 64], zero behind each text."""
    lengths: Tensor
    """[B]: tokens of each text."""
    image_embeds: Tensor
    """[B, 5, 32]."""
    pose: Tensor | None = None
    """[B, 16, T-1, H/8, W/8], for an animation."""
    faces: Tensor | None = None
    """[B, 3, frames, 64, 64] in -1..1, for an animation."""

    def to(self, device: torch.device) -> Batch:
        """Itself on another device."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: t if t is None else t.to(device) for name, t in given.items()})


def begin(transformer: nn.Module) -> nn.Module:
    """First weights: the stock ones, but that nothing is predicted at first."""
    nn.init.zeros_(transformer.proj_out.weight)
    nn.init.zeros_(transformer.proj_out.bias)
    return transformer


def train(
    run: Run,
    transformer: nn.Module,
    batches: Callable[[torch.Generator], Batch],
    unseen: Callable[[torch.Generator], Batch],
    learning_rate: float = LEARNING_RATE,
) -> nn.Module:
    """Learn for as long as the run says; goes on from its last checkpoint.

    Args:
        run: see there.
        transformer: what learns, from `begin`.
        batches: gives a batch by chance.
        unseen: likewise, of clips that are never learnt from.
        learning_rate: the highest.
    Returns:
        The weights averaged over the last steps.
    """
    processor = shorten(transformer, 5)
    course = Course(
        run, transformer, learning_rate, (0.9, 0.98), warm_up=100, decay=0.997, weight_decay=0.01
    )
    averaged = shorten(course.smoothed(), 5)
    generator = torch.Generator().manual_seed(run.seed + course.step)
    for _ in course.steps():
        course.learn(flow_loss(transformer, processor, batches(generator), generator))
        if course.is_time_to_look():
            course.note("unseen", _look(course.smoothed(), averaged, unseen))
    return course.smoothed().cpu()


@torch.no_grad()
def _look(
    transformer: nn.Module, processor: Any, unseen: Callable[[torch.Generator], Batch]
) -> float:
    generator = torch.Generator().manual_seed(7)
    losses = [
        float(flow_loss(transformer, processor, unseen(generator), generator)) for _ in range(8)
    ]
    return sum(losses) / len(losses)


def flow_loss(
    transformer: nn.Module, processor: Any, batch: Batch, generator: torch.Generator
) -> Tensor:
    """Mean square of what is wrong with the predicted way from latents to noise.

    Args:
        transformer: shortened, on any device.
        processor: what `shorten` gave.
        batch: on any device.
        generator: on the CPU, so that every device meets the same noise.
    """
    device = device_of(transformer)
    batch = batch.to(device)
    count = len(batch.latents)
    noise = torch.randn(batch.latents.shape, generator=generator).to(device)
    even = torch.rand(count, generator=generator).to(device)
    sigma = _SHIFT * even / (1 + (_SHIFT - 1) * even)
    mixed = torch.lerp(batch.latents, noise, sigma.view(-1, 1, 1, 1, 1))
    processor.bias = pad_bias(batch.lengths, batch.text.shape[1])
    given: dict[str, Any] = {
        "hidden_states": torch.cat([mixed, batch.known], dim=1),
        "timestep": sigma * 1000,
        "encoder_hidden_states": batch.text,
        "encoder_hidden_states_image": batch.image_embeds,
    }
    if batch.pose is not None:
        given |= {"pose_hidden_states": batch.pose, "face_pixel_values": batch.faces}
    way = transformer(**given, return_dict=False)[0]
    return (way.float() - (noise - batch.latents)).square().mean()


def mix(
    groups: list[tuple[float, Callable[[torch.Generator], Batch]]],
) -> Callable[[torch.Generator], Batch]:
    """Batches of several kinds, each with its share."""
    weights = torch.tensor([share for share, _ in groups])

    def draw(generator: torch.Generator) -> Batch:
        return groups[int(torch.multinomial(weights, 1, generator=generator))][1](generator)

    return draw
