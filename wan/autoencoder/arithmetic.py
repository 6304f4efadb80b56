"""Norms and convolutions on frames of [T, H, W, C], the fastest way on each device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_LEAST_LENGTH = 1e-12  # diffusers divides by no less, as torch.nn.functional.normalize does


class Norm:
    """Brings each pixel's channels to one length, scales them, and applies SiLU if wanted.

    Half precision is rounded once or twice on the way, and never while lengths are measured.

    Args:
        module: diffusers' `WanRMS_norm`.
        dtype: of the pixels.
    """

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        gamma = module.gamma.detach().flatten()
        self._gamma, self._scale = gamma.to(dtype), (gamma.float() * module.scale).to(dtype)

    def __call__(self, pixels: Tensor, target: Tensor, is_activated: bool) -> None:
        """Write what becomes of `pixels` to `target`; both are [..., C], the latter contiguous."""
        way = self.in_one_kernel if pixels.is_cuda else self.step_by_step
        way(pixels, target, is_activated)

    def in_one_kernel(self, pixels: Tensor, target: Tensor, is_activated: bool) -> None:
        """As a GPU has it: divided by the root of the mean square, which is the length over √C."""
        channels = len(self._gamma)
        least = _LEAST_LENGTH**2 / channels
        normed = functional.rms_norm(pixels, (channels,), self._gamma, least)
        if is_activated:
            torch.ops.aten.silu.out(normed, out=target)
        else:
            target.copy_(normed)

    def step_by_step(self, pixels: Tensor, target: Tensor, is_activated: bool) -> None:
        """As diffusers does it: in the target itself, which stays in a core's cache."""
        lengths = torch.linalg.vector_norm(pixels, dim=-1, keepdim=True, dtype=torch.float32)
        torch.div(pixels, lengths.clamp_min_(_LEAST_LENGTH), out=target)
        target.mul_(self._scale)
        if is_activated:
            functional.silu(target, inplace=True)


def prepare_kernel(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """A kernel as `convolve` takes it: whole, or its three frames apart.

    Args:
        weight: [O, C, 3, 3, 3].
    """
    weight = weight.detach().to(dtype)
    last = weight[:, :, -1].contiguous(memory_format=torch.channels_last)
    if convolves_whole(weight.device, dtype):
        return weight.contiguous(memory_format=torch.channels_last_3d), last
    before = (weight[:, :, k].contiguous(memory_format=torch.channels_last) for k in (0, 1))
    return *before, last


def convolve(frames: Tensor, kernel: tuple[Tensor, ...], bias: Tensor) -> Tensor:
    """A 3x3x3 convolution that reaches one pixel beyond the borders, and two frames back.

    Args:
        frames: [T+2, H, W, C], or one frame that has nothing but zeros before it.
        kernel: of `prepare_kernel`.
        bias: [O].
    Returns:
        [T, H, W, O].
    """
    if len(frames) == 1:
        return _convolve_each(frames, kernel[-1], bias)
    if len(kernel) == 2:
        video = frames.permute(3, 0, 1, 2).unsqueeze(0)  # T H W C -> 1 C T H W
        result = functional.conv3d(video, kernel[0], bias, padding=(0, 1, 1))
        return result[0].permute(1, 2, 3, 0).contiguous()
    count = len(frames) - 2
    result = _convolve_each(frames[2:], kernel[2], bias)
    for back in (1, 0):
        result.add_(_convolve_each(frames[back : back + count], kernel[back], None))
    return result


def linear(frames: Sequence[Tensor], taps: Tensor, bias: Tensor, target: Tensor) -> None:
    """The sum of some frames, each through a matrix of its own.

    Args:
        frames: [H, W, C] each.
        taps: [frames, C, O].
        bias: [O].
        target: [H, W, O]; what is written.
    """
    pixels = target.view(-1, target.shape[-1])
    first, *others = (frame.reshape(-1, frame.shape[-1]) for frame in frames)
    torch.addmm(bias, first, taps[0], out=pixels)
    for frame, tap in zip(others, taps[1:], strict=True):
        pixels.addmm_(frame, tap)


@cache
def convolves_whole(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a 3x3x3 convolution is best computed as one, or as three of 3x3 that are added up.

    On the CPU the three are as fast for many channels and ten times as fast for 16 and fewer,
    which the library's 3D convolutions have no good way for. On NVIDIA GPUs PyTorch 2.9 and newer
    does without cuDNN for one in half precision, unless cuDNN is 9.15 or newer, and then takes
    many times the memory: PyTorch issue 166643.
    """
    if device.type == "cpu":
        return False
    version = torch.backends.cudnn.version() if device.type == "cuda" else None
    is_avoided = version is not None and 90800 <= version < 91500
    return not (is_avoided and torch.version.hip is None and dtype.itemsize == 2)


def _convolve_each(frames: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    pixels = frames.permute(0, 3, 1, 2)  # T H W C -> T C H W, which stays where it lies
    return functional.conv2d(pixels, kernel, bias, padding=1).permute(0, 2, 3, 1).contiguous()
