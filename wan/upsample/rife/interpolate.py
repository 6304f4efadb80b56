"""More frames per second: RIFE between every two frames, written straight into the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import InputError
from ...media.frames import blacken, note_black
from ...progress import Reporter, phase
from ...shortage import Cure, within_memory
from ..frames import allocate, check_frames
from .layout import Layout
from .load import Rife
from .scene import CUT, reduce_frame, similarity

FACTORS = range(2, 9)
"""By what the frame rate can be multiplied."""
_MIDDLE = 0.5
# hzwer/Practical-RIFE README.md: 1 for 1080p, 0.5 for 4K. The bound lies between the two.
_LARGE_PIXELS = 2 * 1920 * 1080
_REDUCED = 0.5
# Float32 values per pixel that one forward holds beside the weights: at most 136, counted on meta
# tensors for every layout, and room for what convolutions take on the side.
_VALUES_PER_PIXEL = 200


def interpolated_count(frames: int, factor: int) -> int:
    """Frames after interpolation: nothing is added behind the last one."""
    return (frames - 1) * factor + 1


def check_factor(layout: Layout, factor: int) -> None:
    """Refuse a factor that a network cannot reach.

    Raises:
        InputError: not a whole number from 2 to 8, or not a power of two for RIFE v3.
    """
    allowed = [f for f in FACTORS if not layout.halves_only or f & (f - 1) == 0]
    if factor not in allowed:
        raise InputError(
            what=f"The factor of RIFE is {factor}.",
            why=f"{layout.label} knows "
            + ("only the middle between two frames." if layout.halves_only else "2 to 8."),
            fix=f"Use one of {', '.join(map(str, allowed))}"
            + (", or weights of RIFE 4." if layout.halves_only else "."),
        )


def flow_scale(width: int, height: int) -> float:
    """Size at which motion is measured: 1 up to 1080p and a little beyond, 0.5 for 4K."""
    return _REDUCED if width * height > _LARGE_PIXELS else 1.0


def interpolate(
    frames: Tensor, rife: Rife, factor: int, reporter: Reporter, scale: float | None = None
) -> Tensor:
    """Multiply the frame rate.

    Frame i of the input is frame i * factor of the result, bit for bit. Between two frames of
    different scenes the earlier one is repeated. Beside the result, memory is taken for two frames
    only.

    Args:
        frames: [T, H, W, 3 or more], uint8 or floating point in 0..1, of any size; an alpha channel
            is dropped, pixels that are NaN become black; both are noted.
        rife: the network.
        factor: 2 to 8; a power of two for RIFE v3.
        reporter: told once per pair of frames.
        scale: size at which motion is measured, 1 or a negative power of two; None: `flow_scale`.
    Returns:
        [(T - 1) * factor + 1, H, W, 3], of the type of `frames`, on the CPU.
    Raises:
        GeometryError: not frames.
        InputError: a factor that the network cannot reach.
    """
    check_factor(rife.layout, factor)
    frames = check_frames(frames, reporter)
    count, height, width = frames.shape[:3]
    result = allocate(interpolated_count(count, factor), height, width, frames.dtype, reporter)
    note_cuts(fill_between(frames, rife, factor, reporter, result, scale), reporter)
    return result


def fill_between(
    frames: Tensor,
    rife: Rife,
    factor: int,
    reporter: Reporter,
    result: Tensor,
    scale: float | None = None,
) -> list[int]:
    """What `interpolate` does, into memory that is there.

    Args:
        frames: [T, H, W, 3], uint8 or floating point in 0..1.
        rife, factor, reporter, scale: as `interpolate`.
        result: [(T - 1) * factor + 1, H, W, 3], of the type of `frames`; set.
    Returns:
        Numbers of the frames that are the last ones of their scenes.
    """
    scale = scale or flow_scale(frames.shape[2], frames.shape[1])
    run = _Run(rife, frames, result, factor, scale, reporter)
    if len(frames) == 1:
        run.take(0)
    else:
        run.fill()
    note_black(run.black, reporter)
    return run.cuts


def note_cuts(cuts: Sequence[int], reporter: Reporter) -> None:
    """Tell where scenes end, if any do."""
    if cuts:
        named = ", ".join(map(str, cuts))
        reporter.note(f"Scene cut after frame {named}: the frame is repeated, not blended.")


@dataclass(frozen=True)
class _Picture:
    """A frame as the network sees it."""

    padded: Tensor
    """[1, 3, h, w] float32 in 0..1 on the network's device; black to the right and below."""
    small: Tensor
    features: Tensor


class _Run:
    """One interpolation under way."""

    def __init__(
        self,
        rife: Rife,
        frames: Tensor,
        result: Tensor,
        factor: int,
        scale: float,
        reporter: Reporter,
    ) -> None:
        self._rife, self._frames, self._result = rife, frames, result
        self._factor, self._scale, self._reporter = factor, scale, reporter
        multiple = int(rife.layout.multiple / scale)
        self._height, self._width = frames.shape[1:3]
        self._padding = (0, -self._width % multiple, 0, -self._height % multiple)
        self.black: dict[int, int] = {}
        self.cuts: list[int] = []

    def take(self, index: int) -> Tensor:
        """Copy a frame to its place in the result; gives it back."""
        frame, self.black[index] = blacken(self._frames[index])
        return self._result[index * self._factor].copy_(frame)

    def fill(self) -> None:
        """Copy all frames and make those between.

        Raises:
            OutOfVramError: a pair does not fit, even with everything else off the device.
        """
        needed = _VALUES_PER_PIXEL * (self._width + self._padding[1])
        needed *= (self._height + self._padding[3]) * 4  # bytes of a float32
        half = Cure(needed * 3 // 4, f"interpolate at scale {self._scale / 2:g}")
        within_memory(
            lambda: self._fill(needed),
            self._rife.net,
            lambda: needed,
            self._reporter,
            cures=[half, Cure(needed // 2, "interpolate before the frames are made larger")],
        )

    @torch.inference_mode()
    def _fill(self, needed: int) -> None:
        pairs = len(self._frames) - 1
        self.cuts.clear()
        with (
            phase(self._reporter, "interpolate", pairs) as advance,
            self._rife.net.on_device(needed) as net,
        ):
            second = self._prepare(net, self.take(0))
            for index in range(pairs):
                first, second = second, self._prepare(net, self.take(index + 1))
                self._fill_between(net, index, first, second)
                advance()

    def _fill_between(self, net: Any, index: int, first: _Picture, second: _Picture) -> None:
        start = index * self._factor
        between = self._result[start + 1 : start + self._factor]
        if similarity(first.small, second.small) < CUT:
            self.cuts.append(index)
            between[:] = self._result[start]
            return
        for target, picture in zip(between, self._between(net, first, second), strict=True):
            self._reporter.check_cancelled()
            self._write(target, picture)

    def _between(self, net: Any, first: _Picture, second: _Picture) -> Iterator[Tensor]:
        """The pictures between two, in order, each [1, 3, h, w]."""
        if self._rife.layout.halves_only:
            yield from self._halve(net, first.padded, second.padded, self._factor)
            return
        for step in range(1, self._factor):
            yield self._picture_at(net, first, second, step / self._factor)

    def _picture_at(self, net: Any, first: _Picture, second: _Picture, time: float) -> Tensor:
        moment = torch.full((1,), time, device=first.padded.device)
        features = (first.features, second.features)
        return net(first.padded, second.padded, moment, features, self._scale)

    def _halve(self, net: Any, first: Tensor, second: Tensor, factor: int) -> Iterator[Tensor]:
        if factor == 1:
            return
        moment = torch.full((1,), _MIDDLE, device=first.device)
        features = (first[:, :0], second[:, :0])
        middle = net(first, second, moment, features, self._scale).clamp_(0, 1)
        yield from self._halve(net, first, middle, factor // 2)
        yield middle
        yield from self._halve(net, middle, second, factor // 2)

    def _prepare(self, net: Any, frame: Tensor) -> _Picture:
        picture = frame.to(self._rife.net.device).movedim(-1, 0).unsqueeze(0)  # H W C -> 1 C H W
        picture = picture.float().div(255) if frame.dtype == torch.uint8 else picture.float()
        picture = picture.clamp(0, 1)
        padded = functional.pad(picture, self._padding)
        return _Picture(padded, reduce_frame(picture), net.encode(padded))

    def _write(self, target: Tensor, picture: Tensor) -> None:
        picture = picture[0, :, : self._height, : self._width].clamp(0, 1)
        if target.dtype == torch.uint8:
            picture = picture.mul(255).round_().to(torch.uint8)
        target.copy_(picture.movedim(0, -1))  # C H W -> H W C
