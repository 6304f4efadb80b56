"""The layers of the VAE, on frames of one video, [T, H, W, C].

A layer takes the weights it needs when it is made, in the type and order it computes with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .arithmetic import Norm, convolve, linear, prepare_kernel


class Room:
    """Memory that the convolutions of a coder use in turn."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def take(self, like: Tensor, frames: int) -> Tensor:
        """Room for so many frames like those of `like`; what was taken before is overwritten."""
        size = frames * like[0].numel()
        if self._memory is None or len(self._memory) < size:
            self._memory = None  # before the larger one is taken
            self._memory = like.new_empty(size)
        return self._memory[:size].view(frames, *like.shape[1:])


class Layer(ABC):
    """Something that frames pass through, chunk by chunk."""

    @abstractmethod
    def __call__(self, frames: Tensor) -> Tensor:
        """The next frames of the video, [T, H, W, C]; `frames` is left as it is."""

    def forget(self) -> None:  # noqa: B027 - most layers remember nothing
        """Begin another video."""


class Convolution(Layer):
    """A causal 3x3x3 convolution; before it, if there is a norm, the norm and SiLU.

    Args:
        module: diffusers' `WanCausalConv3d`.
        norm: diffusers' `WanRMS_norm`, or None.
        dtype: to compute in.
        room: shared by a coder's convolutions.
    """

    def __init__(
        self, module: nn.Module, norm: nn.Module | None, dtype: torch.dtype, room: Room
    ) -> None:
        self._kernel = prepare_kernel(module.weight, dtype)
        self._bias = _vector(module.bias, dtype)
        self._norm = None if norm is None else Norm(norm, dtype)
        self._room = room
        self._past: Tensor | None = None

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        return self.finish(self.read(frames))

    def read(self, frames: Tensor) -> Tensor:
        """What is convolved: the frames, normed, behind those that are looked back at.

        Kept apart from `finish` so that the frames can be freed in between.
        """
        # Before a video there is nothing but zeros. A first frame alone meets them in two of the
        # three frames of the kernel, which need not be applied then.
        lead = 0 if self._past is None and len(frames) == 1 else 2
        if self._past is None:
            self._past = frames.new_zeros(2, *frames.shape[1:])
        buffer = self._room.take(frames, lead + len(frames))
        buffer[:lead] = self._past[:lead]
        # Frame by frame, so that what is computed on the way is one frame large.
        for frame, target in zip(frames, buffer[lead:], strict=True):
            if self._norm is None:
                target.copy_(frame)
            else:
                self._norm(frame, target, is_activated=True)
        kept = min(2, len(buffer))
        self._past[2 - kept :] = buffer[-kept:]
        return buffer

    def finish(self, buffer: Tensor) -> Tensor:
        """Convolve what was read."""
        return convolve(buffer, self._kernel, self._bias)

    def forget(self) -> None:
        """As `Layer`."""
        self._past = None


class Residual(Layer):
    """Two convolutions beside a shortcut: diffusers' `WanResidualBlock`."""

    def __init__(self, module: Any, dtype: torch.dtype, room: Room) -> None:
        self._first = Convolution(module.conv1, module.norm1, dtype, room)
        self._second = Convolution(module.conv2, module.norm2, dtype, room)
        self._shortcut = None
        if not isinstance(module.conv_shortcut, nn.Identity):
            self._shortcut = Pointwise(module.conv_shortcut, dtype)

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        result = self._first(frames)
        buffer = self._second.read(result)
        del result  # the most memory is taken by the next line
        result = self._second.finish(buffer)
        return result.add_(frames if self._shortcut is None else self._shortcut(frames))

    def forget(self) -> None:
        """As `Layer`."""
        self._first.forget()
        self._second.forget()


class Pointwise(Layer):
    """A convolution that sees one pixel of one frame at a time."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._weight = module.weight.detach().flatten(1).to(dtype)
        self._bias = _vector(module.bias, dtype)

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        return functional.linear(frames, self._weight, self._bias)


class Attention(Layer):
    """Every pixel of a frame looks at all pixels of it: diffusers' `WanAttentionBlock`."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._norm = Norm(module.norm, dtype)
        self._qkv = Pointwise(module.to_qkv, dtype)
        self._out = Pointwise(module.proj, dtype)

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        normed = torch.empty_like(frames)
        self._norm(frames, normed, is_activated=False)
        # T H W C -> T 1 (H W) C
        query, key, value = self._qkv(normed).flatten(1, 2).unsqueeze(1).chunk(3, dim=-1)
        seen = functional.scaled_dot_product_attention(query, key, value)
        return self._out(seen.view(frames.shape)).add_(frames)


class Enlarge(Layer):
    """Twice the width and height by repeating pixels, and a 3x3 convolution of those."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        # Pixels that are repeated meet the sum of neighbouring weights. All those sums are the
        # kernel with a square of 2x2 ones passed over it: [O, C, 3, 3] -> [C, O, 4, 4].
        kernel = module.weight.detach().float()
        out, given = kernel.shape[:2]
        square = kernel.new_ones(1, 1, 2, 2)
        sums = functional.conv2d(kernel.reshape(-1, 1, 3, 3), square, padding=1)
        sums = sums.view(out, given, 4, 4).transpose(0, 1).flip(2, 3)
        self._kernel = sums.to(dtype).contiguous(memory_format=torch.channels_last)
        self._bias = _vector(module.bias, dtype)

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        pixels = frames.permute(0, 3, 1, 2)  # T H W C -> T C H W
        larger = functional.conv_transpose2d(pixels, self._kernel, self._bias, stride=2, padding=1)
        return larger.permute(0, 2, 3, 1).contiguous()


class Reduce(Layer):
    """Half the width and height: a 3x3 convolution of every other pixel."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        kernel = module.weight.detach().to(dtype)
        self._kernel = kernel.contiguous(memory_format=torch.channels_last)
        self._bias = _vector(module.bias, dtype)

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        # It reaches one pixel beyond the right and lower border, and none beyond the others.
        padded = functional.pad(frames, (0, 0, 0, 1, 0, 1)).permute(0, 3, 1, 2)
        smaller = functional.conv2d(padded, self._kernel, self._bias, stride=2)
        return smaller.permute(0, 2, 3, 1).contiguous()


class Singly(Layer):
    """Layers that each frame passes through before the next one does, which takes less memory.

    Args:
        layers: they keep the number of frames.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        result: Tensor | None = None
        for number in range(len(frames)):
            passing = frames[number : number + 1]
            for layer in self._layers:
                passing = layer(passing)
            if result is None:
                result = passing.new_empty(len(frames), *passing.shape[1:])
            result[number] = passing[0]
        assert result is not None  # there is no video without frames
        return result

    def forget(self) -> None:
        """As `Layer`."""
        for layer in self._layers:
            layer.forget()


class DoubleFrames(Layer):
    """Two frames out of each, from it and the two before; the first frame of all stays alone."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        # [2 C, C, 3, 1, 1]: the first half of the outputs are the frames before those of the other
        weights = module.weight.detach()[..., 0, 0].to(dtype)
        self._taps = [half.permute(2, 1, 0).contiguous() for half in weights.chunk(2)]
        self._biases = _vector(module.bias, dtype).chunk(2)
        self._past: list[Tensor] | None = None

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        if self._past is None:
            # That frame is not looked back at either.
            self._past = [torch.zeros_like(frames[0])] * 2
            return frames
        seen = [*self._past, *frames]
        result = frames.new_empty(2 * len(frames), *frames.shape[1:])
        for number, target in enumerate(result):
            half, first = number % 2, number // 2
            linear(seen[first : first + 3], self._taps[half], self._biases[half], target)
        self._past = [frame.clone() for frame in seen[-2:]]
        return result

    def forget(self) -> None:
        """As `Layer`."""
        self._past = None


class HalveFrames(Layer):
    """One frame out of two and the one before them; the first frame of all passes through."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._taps = module.weight.detach()[..., 0, 0].to(dtype).permute(2, 1, 0).contiguous()
        self._bias = _vector(module.bias, dtype)
        self._past: Tensor | None = None

    def __call__(self, frames: Tensor) -> Tensor:
        """As `Layer`."""
        if self._past is None:
            self._past = frames[-1].clone()
            return frames
        seen = [self._past, *frames]
        result = frames.new_empty(len(frames) // 2, *frames.shape[1:])
        for number, target in enumerate(result):
            linear(seen[2 * number : 2 * number + 3], self._taps, self._bias, target)
        self._past = seen[-1].clone()
        return result

    def forget(self) -> None:
        """As `Layer`."""
        self._past = None


def _vector(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.detach().to(dtype)
