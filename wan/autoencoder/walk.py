"""A video's way through the encoder or the decoder, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..switch import uses_own_forward
from .layers import (
    Attention,
    Convolution,
    DoubleFrames,
    Enlarge,
    HalveFrames,
    Layer,
    Pointwise,
    Reduce,
    Residual,
    Room,
    Singly,
)


class Walk(Protocol):
    """Takes the chunks of a video in order and remembers what the later ones look back at."""

    def __call__(self, chunk: Tensor) -> Tensor:
        """The next chunk of the video.

        Args:
            chunk: [1, C, t, h, w] on the VAE's device, of any floating point type.
        Returns:
            [1, C', t', h', w'] of the type it was computed in.
        """
        ...

    def restart(self) -> None:
        """Begin another video, of any size."""
        ...


def open_decoder(vae: Any, dtype: torch.dtype | None = None, is_frugal: bool = False) -> Walk:
    """Latents to pixels: the first chunk is 1 latent frame, the others 1 or more.

    Args:
        vae: diffusers' `AutoencoderKLWan` on its device, where it stays as long as the walk is
            used; its weights are looked at now.
        dtype: to compute in; None: that of the weights. The stock modules have that always.
        is_frugal: take a quarter less memory and, for small pictures, more time: where a chunk
            has most frames, they are computed one by one. The stock modules cannot.
    Returns:
        From [1, 16, t, h, w] to [1, 3, 4t, 8h, 8w] in about -1..1; the first chunk gives 1 frame.
    Source: Wan2.1 wan/modules/vae.py; equal to `AutoencoderKLWan.decode` but for rounding.
    """
    if not uses_own_forward() or not _is_known(vae):
        return _StockWalk(vae.decoder, before=vae.post_quant_conv)
    dtype, room = dtype or vae.post_quant_conv.weight.dtype, Room()
    layers: list[Layer] = [Pointwise(vae.post_quant_conv, dtype)]
    layers += _coder_layers(vae.decoder, dtype, room, is_frugal)
    return _OwnWalk(layers, dtype)


def open_encoder(vae: Any, is_frugal: bool = False) -> Walk:
    """Pixels to latents: the first chunk is 1 frame, the others 4.

    Args:
        vae: as in `open_decoder`. Encoding is done in the type of its weights.
        is_frugal: as in `open_decoder`; here it is a third less memory.
    Returns:
        From [1, 3, t, h, w] in -1..1 to [1, 32, 1, h/8, w/8]: means, and variances that nobody
        here draws from.
    Source: Wan2.1 wan/modules/vae.py; equal to `AutoencoderKLWan.encode` but for rounding.
    """
    if not uses_own_forward() or not _is_known(vae):
        return _StockWalk(vae.encoder, after=vae.quant_conv)
    dtype, room = vae.quant_conv.weight.dtype, Room()
    layers = _coder_layers(vae.encoder, dtype, room, is_frugal)
    return _OwnWalk([*layers, Pointwise(vae.quant_conv, dtype)], dtype)


class _OwnWalk:
    def __init__(self, layers: list[Layer], dtype: torch.dtype) -> None:
        self._layers, self._dtype = layers, dtype

    def __call__(self, chunk: Tensor) -> Tensor:
        frames = chunk[0].permute(1, 2, 3, 0)  # 1 C T H W -> T H W C
        frames = frames.to(self._dtype).contiguous()
        for layer in self._layers:
            frames = layer(frames)
        return frames.permute(3, 0, 1, 2).unsqueeze(0)

    def restart(self) -> None:
        for layer in self._layers:
            layer.forget()


class _StockWalk:
    """The modules' own forward, with memory that is not the modules' own.

    So a cancelled run leaves nothing behind and two runs do not meet.
    """

    def __init__(
        self, coder: nn.Module, before: nn.Module | None = None, after: nn.Module | None = None
    ) -> None:
        self._coder, self._before, self._after = coder, before, after
        self._memory: list[Tensor | None] = []
        self.restart()

    def __call__(self, chunk: Tensor) -> Tensor:
        chunk = chunk.to(next(self._coder.parameters()).dtype)
        options = {}
        if self._before is not None:
            chunk = self._before(chunk)
            options["first_chunk"] = all(remembered is None for remembered in self._memory)
        found = self._coder(chunk, feat_cache=self._memory, feat_idx=[0], **options)
        return found if self._after is None else self._after(found)

    def restart(self) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

        modules = self._coder.modules()
        self._memory = [None] * sum(isinstance(m, WanCausalConv3d) for m in modules)


def _is_known(vae: Any) -> bool:
    """Not Wan 2.2's VAE for TI2V-5B, which has other blocks and which no model here goes with."""
    return not vae.config.is_residual and vae.config.patch_size is None


def _coder_layers(coder: Any, dtype: torch.dtype, room: Room, is_frugal: bool) -> list[Layer]:
    """All layers of diffusers' `WanEncoder3d` or `WanDecoder3d`, in order."""
    layers: list[Layer] = [Convolution(coder.conv_in, None, dtype, room)]
    for module in _blocks(coder):
        layers += _block_layers(module, dtype, room)
    layers.append(Convolution(coder.conv_out, coder.norm_out, dtype, room))
    return _slowed(layers) if is_frugal else layers


def _slowed(layers: list[Layer]) -> list[Layer]:
    """Where there are most frames, one goes through after the other."""
    places = [n for n, layer in enumerate(layers) if isinstance(layer, DoubleFrames | HalveFrames)]
    if not places:
        return layers
    if isinstance(layers[places[-1]], DoubleFrames):
        split = places[-1] + 1
        return [*layers[:split], Singly(layers[split:])]
    return [Singly(layers[: places[0]]), *layers[places[0] :]]


def _blocks(coder: Any) -> Iterator[Any]:
    middle = coder.mid_block
    for block in getattr(coder, "down_blocks", ()):
        yield block
    yield middle.resnets[0]
    for attention, block in zip(middle.attentions, middle.resnets[1:], strict=True):
        yield from (attention, block)
    for block in getattr(coder, "up_blocks", ()):
        yield from block.resnets
        yield from block.upsamplers or ()


def _block_layers(module: Any, dtype: torch.dtype, room: Room) -> Iterator[Layer]:
    if hasattr(module, "to_qkv"):
        yield Attention(module, dtype)
    elif hasattr(module, "conv1"):
        yield Residual(module, dtype, room)
    elif module.mode.startswith("up"):
        if module.mode == "upsample3d":
            yield DoubleFrames(module.time_conv, dtype)
        yield Enlarge(module.resample[1], dtype)
    else:
        yield Reduce(module.resample[1], dtype)
        if module.mode == "downsample3d":
            yield HalveFrames(module.time_conv, dtype)
