"""The RIFE 4 networks: flow from coarse to fine, then both pictures are warped and blended.

The layer names are those of the published weights. Layers are made by `ops`, `torch.nn` by default:
the checks that packs go through refuse modules that are bound to it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .layout import Encoder, Layout
from .warp import make_grid, resample, warp

_SLOPE = 0.2  # of every leaky ReLU


class RifeNet(nn.Module):
    """RIFE 4.7 to 4.26, as its layout says.

    Source: hzwer/Practical-RIFE, IFNet_HDv3.py of each version (as collected in HolyWu/vs-rife).
    """

    def __init__(self, layout: Layout, ops: Any = nn) -> None:
        super().__init__()
        assert layout.encoder is not None
        self.layout = layout
        self.encode = _Encoder(layout.encoder, ops)
        pictures = 2 * (3 + layout.encoder.channels)
        for index, width in enumerate(layout.widths):
            # time; then mask, features and flow of the block before
            inputs = pictures + 1 + (1 + layout.features + 4 if index else 0)
            self.add_module(f"block{index}", _Block(layout, inputs, width, ops))

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        time: Tensor,
        features: tuple[Tensor, Tensor],
        scale: float = 1.0,
    ) -> Tensor:
        """The picture between two.

        Args:
            first, second: [B, 3, H, W] float32 in 0..1, H and W multiples of
                `layout.multiple / scale`.
            time: [B], between 0 (first) and 1 (second).
            features: what `encode` gives for both.
            scale: below 1, flow is measured on reduced pictures.
        Returns:
            [B, 3, H, W] float32 in 0..1.
        """
        # Places in a picture are too fine for half precision, so all of this is float32 and only
        # the convolutions are in the type of the weights.
        sides = [
            torch.cat((p, f.float()), 1) for p, f in zip((first, second), features, strict=True)
        ]
        dtype = self.encode.cnn0.weight.dtype
        grid = make_grid(first)
        moment = time.float().view(-1, 1, 1, 1).expand_as(first[:, :1])
        seen, flow, mask, handed = sides, None, None, None
        for index, factor in enumerate(self.layout.factors):
            inputs = [seen[0][:, :3], seen[1][:, :3], seen[0][:, 3:], seen[1][:, 3:], moment]
            if mask is not None and handed is not None:
                inputs += [mask, handed]
            block = self.get_submodule(f"block{index}")
            change, mask, handed = block(
                torch.cat([part.to(dtype) for part in inputs], 1), flow, factor / scale
            )
            flow = change if flow is None else flow + change
            if index == len(self.layout.factors) - 1:
                sides = [first, second]  # the features have done their work
            seen = [warp(sides[0], flow[:, :2], grid), warp(sides[1], flow[:, 2:4], grid)]
        assert mask is not None
        return torch.lerp(seen[1], seen[0], torch.sigmoid(mask.float()))


class _Encoder(nn.Module):
    def __init__(self, encoder: Encoder, ops: Any) -> None:
        super().__init__()
        self.cnn0 = ops.Conv2d(3, encoder.width, 3, 2, 1)
        for index in range(1, encoder.layers - 1):
            self.add_module(f"cnn{index}", ops.Conv2d(encoder.width, encoder.width, 3, 1, 1))
        last = ops.ConvTranspose2d(encoder.width, encoder.channels, 4, 2, 1)
        self.add_module(f"cnn{encoder.layers - 1}", last)

    def forward(self, picture: Tensor) -> Tensor:
        layers = list(self.children())
        features = picture.to(self.cnn0.weight.dtype)
        for layer in layers[:-1]:
            features = layer(features)
            if len(layers) > 2:  # the encoder of 4.7 to 4.9 is linear
                features = functional.leaky_relu(features, _SLOPE, inplace=True)
        return layers[-1](features)


class _Block(nn.Module):
    def __init__(self, layout: Layout, inputs: int, width: int, ops: Any) -> None:
        super().__init__()
        self.used = 5 + layout.features
        self.conv0 = nn.Sequential(
            _activated(ops.Conv2d(inputs, width // 2, 3, 2, 1)),
            _activated(ops.Conv2d(width // 2, width, 3, 2, 1)),
        )
        self.convblock = nn.Sequential(
            *(_Residual(width, layout.groups, ops) for _ in range(layout.depth))
        )
        self.lastconv = nn.Sequential(
            ops.ConvTranspose2d(width, 4 * layout.planes, 4, 2, 1), nn.PixelShuffle(2)
        )

    def forward(
        self, inputs: Tensor, flow: Tensor | None, factor: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change of the flow (float32), mask and features, all at full size."""
        seen = resample(inputs, 1 / factor)
        if flow is not None:
            seen = torch.cat((seen, resample(flow, 1 / factor).div_(factor).to(seen.dtype)), 1)
        planes = self.lastconv(self.convblock(self.conv0(seen)))[:, : self.used]
        planes = resample(planes, factor)
        return planes[:, :4].float() * factor, planes[:, 4:5], planes[:, 5:]


class _Residual(nn.Module):
    def __init__(self, width: int, groups: int, ops: Any) -> None:
        super().__init__()
        self.conv = ops.Conv2d(width, width, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        changed = torch.addcmul(x, self.conv(x), self.beta)
        return functional.leaky_relu(changed, _SLOPE, inplace=True)


def _activated(convolution: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, nn.LeakyReLU(_SLOPE, inplace=True))
