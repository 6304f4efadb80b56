"""Rotary position tables of a run, made once, and RIFLEx for long videos."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import GeometryError, InputError
from ..geometry import SPATIAL_STRIDE, TEMPORAL_STRIDE, LatentShape

_THETA = 10000.0  # Wan2.1 wan/modules/model.py, rope_params
_USUAL_PERIOD = 51  # latent frames; of k = 6 at head_dim 128: thu-ml/DiT-Extrapolation issue 8
_STRETCH = 0.9  # thu-ml/RIFLEx riflex_utils.py: the period becomes the length divided by this


@dataclass(frozen=True)
class Riflex:
    """Stretch one temporal frequency so that a long video stays within a single period."""

    k: int | None = None
    """Which temporal frequency, counted from 1. None takes the one with the period nearest to 51
    latent frames: 6 on every published Wan, another one on the miniatures."""
    force: bool = False
    """Apply it to short videos too, whose motion it speeds up."""


@dataclass(frozen=True)
class Rotary:
    """Positions of all tokens of a run."""

    tables: tuple[Tensor, Tensor]
    """Cosines and sines as the stock blocks take them, from `rotary_tables`."""
    angles: tuple[Tensor, Tensor]
    """The same once for each pair of channels, [1, tokens, 1, head_dim / 2] float32."""

    @staticmethod
    def of(tables: tuple[Tensor, Tensor]) -> Rotary:
        """Both forms of the same positions."""
        cos, sin = (table[..., ::2].float().contiguous() for table in tables)
        return Rotary(tables, (cos, sin))


def temporal_frequencies(head_dim: int) -> list[float]:
    """Frequencies along the time axis in radians per latent frame, highest first.

    Args:
        head_dim: channels of an attention head, even; 128 on every published Wan.
    Returns:
        22 values for 128, 4 for 24: time gets what a third each, rounded down to a multiple of
        two, leaves to it.
    Source: diffusers models/transformers/transformer_wan.py, WanRotaryPosEmbed.
    """
    columns = _split(head_dim)[0]
    return [_THETA ** (-2 * index / columns) for index in range(columns // 2)]


def nearest_frequency(head_dim: int, period: float) -> tuple[int, int]:
    """The temporal frequency whose period is nearest to `period` latent frames.

    Returns:
        (k counted from 1, its period rounded to whole latent frames); the lower k of two equals.
    Source: thu-ml/RIFLEx riflex_utils.py, identify_k.
    """
    periods = [round(2 * math.pi / frequency) for frequency in temporal_frequencies(head_dim)]
    index = min(range(len(periods)), key=lambda i: abs(periods[i] - period))
    return index + 1, periods[index]


def riflex_applies(riflex: Riflex | None, latent_frames: int, head_dim: int) -> bool:
    """Whether RIFLEx changes anything for a video of this length.

    Args:
        riflex: None is off. Without force it applies only where it lowers the frequency: from
            46 latent frames (181 frames) for k = 6 and head_dim 128.
        latent_frames: of the sampled clip, an extra one for the end image included.
        head_dim: channels of an attention head.
    Raises:
        InputError: the model has no temporal frequency number k.
    """
    if riflex is None:
        return False
    k = _pick(riflex, head_dim)
    return (
        riflex.force or stretched_frequency(latent_frames) < temporal_frequencies(head_dim)[k - 1]
    )


def stretched_frequency(latent_frames: int) -> float:
    """The frequency that RIFLEx puts in place, in radians per latent frame.

    Source: thu-ml/RIFLEx riflex_utils.py.
    """
    return _STRETCH * 2 * math.pi / latent_frames


def rotary_tables(
    rope: nn.Module, shape: LatentShape, riflex: Riflex | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What `rope.forward` gives for latents of this shape, to be made once per run.

    Args:
        rope: a diffusers `WanRotaryPosEmbed`; its tables are read and never changed.
        shape: latent frames, rows and columns of the transformer's input.
        riflex: None leaves the frequencies alone; see `riflex_applies`.
        device: where the tables are wanted.
    Returns:
        (cos, sin), each [1, tokens, 1, head_dim] in the type of the module's tables (float32);
        bit-identical to the module's own where RIFLEx does not apply.
    Raises:
        GeometryError: the video is longer, higher or wider than the module's tables.
        InputError: the model has no temporal frequency number k.
    Source: diffusers models/transformers/transformer_wan.py, WanRotaryPosEmbed.
    """
    head_dim = rope.attention_head_dim
    depth, rows, columns = rope.patch_size
    grid = (shape.frames // depth, shape.height // rows, shape.width // columns)
    _check_grid(grid, rope)
    first = None
    if riflex is not None and riflex_applies(riflex, grid[0], head_dim):
        first = 2 * (_pick(riflex, head_dim) - 1)
    angles = torch.arange(grid[0], dtype=torch.float64) * stretched_frequency(grid[0])
    tables = []
    for source, wave in ((rope.freqs_cos, torch.cos), (rope.freqs_sin, torch.sin)):
        axes = source.to(device).split(_split(head_dim), dim=1)
        time, *space = (axis[:count] for axis, count in zip(axes, grid, strict=True))
        if first is not None:
            time = time.clone()
            # Every frequency fills two neighbouring columns.
            time[:, first : first + 2] = wave(angles).to(time.dtype).to(device)[:, None]
        tables.append(_spread([time, *space], grid))
    return tables[0], tables[1]


def _split(head_dim: int) -> tuple[int, int, int]:
    """Columns of a head for time, rows and columns of the picture."""
    space = 2 * (head_dim // 6)
    return head_dim - 2 * space, space, space


def _spread(axes: list[Tensor], grid: tuple[int, int, int]) -> Tensor:
    """Per-axis tables [positions, columns] to one row per token, time slowest."""
    spread = []
    for number, axis in enumerate(axes):
        view = [1, 1, 1, axis.shape[1]]
        view[number] = grid[number]
        spread.append(axis.view(view).expand(*grid, -1))
    # t h w d -> 1 (t h w) 1 d
    return torch.cat(spread, dim=-1).flatten(0, 2)[None, :, None]


def _pick(riflex: Riflex, head_dim: int) -> int:
    if riflex.k is None:
        return nearest_frequency(head_dim, _USUAL_PERIOD)[0]
    count = len(temporal_frequencies(head_dim))
    if not 1 <= riflex.k <= count:
        raise InputError(
            what=f"RIFLEx k is {riflex.k}, and this model has {count} temporal frequencies.",
            why="k names the frequency to stretch, counted from 1.",
            fix=f"Use {nearest_frequency(head_dim, _USUAL_PERIOD)[0]}, or another from 1 to {count}.",
        )
    return riflex.k


def _check_grid(grid: tuple[int, int, int], rope: nn.Module) -> None:
    positions = rope.freqs_cos.shape[0]
    depth, rows, columns = rope.patch_size
    latents = depth * positions
    cures = (
        ("latent frames", depth, f"{TEMPORAL_STRIDE * (latents - 1) + 1} frames"),
        ("latent rows", rows, f"a height of {SPATIAL_STRIDE * rows * positions} pixels"),
        ("latent columns", columns, f"a width of {SPATIAL_STRIDE * columns * positions} pixels"),
    )
    for count, (name, patch, most) in zip(grid, cures, strict=True):
        if count > positions:
            raise GeometryError(
                what=f"The video has {count * patch} {name}, and the model knows positions for "
                f"{positions * patch}.",
                why="Each of them needs a position of its own.",
                fix=f"Use at most {most}.",
            )
