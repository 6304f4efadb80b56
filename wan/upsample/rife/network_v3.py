"""The RIFE v3 HD network: only the middle between two pictures, measured in both directions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .layout import Layout
from .warp import make_grid, resample, warp


class RifeV3Net(nn.Module):
    """RIFE v3 HD.

    Source: hzwer/ECCV2022-RIFE, "HD" model of v3 (IFNet_HDv3.py of its release).
    """

    def __init__(self, layout: Layout, ops: Any = nn) -> None:
        super().__init__()
        self.layout = layout
        for index, width in enumerate(layout.widths):
            self.add_module(f"block{index}", _Block(width, ops))

    def encode(self, picture: Tensor) -> Tensor:
        """No features: this network has no encoder."""
        return picture[:, :0]

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        time: Tensor,
        features: tuple[Tensor, Tensor],
        scale: float = 1.0,
    ) -> Tensor:
        """The picture in the middle between two.

        Args:
            first, second: [B, 3, H, W] float32 in 0..1, H and W multiples of
                `layout.multiple / scale`.
            time: not looked at.
            features: not looked at.
            scale: below 1, flow is measured on reduced pictures.
        Returns:
            [B, 3, H, W] float32 in 0..1.
        """
        grid = make_grid(first)
        flow, mask = (
            torch.zeros_like(first[:, :1]).repeat(1, 4, 1, 1),
            torch.zeros_like(first[:, :1]),
        )
        seen = (first, second)
        for index, factor in enumerate(self.layout.factors):
            # Both directions in one pass: the second half of the batch is the pair turned round.
            pictures = torch.cat((torch.cat((*seen, mask), 1), torch.cat((*seen[::-1], -mask), 1)))
            both_flows = torch.cat((flow, _swapped(flow)))
            block = self.get_submodule(f"block{index}")
            flows, masks = block(pictures, both_flows, factor / scale)
            (there, back), (mask_there, mask_back) = flows.chunk(2), masks.chunk(2)
            flow = flow + (there + _swapped(back)) / 2
            mask = mask + (mask_there - mask_back) / 2
            seen = (warp(first, flow[:, :2], grid), warp(second, flow[:, 2:4], grid))
        return torch.lerp(seen[1], seen[0], torch.sigmoid(mask))


class _Block(nn.Module):
    def __init__(self, width: int, ops: Any) -> None:
        super().__init__()
        # two pictures, mask and flow
        self.conv0 = nn.Sequential(
            _activated(ops.Conv2d(11, width // 2, 3, 2, 1), width // 2),
            _activated(ops.Conv2d(width // 2, width, 3, 2, 1), width),
        )
        for index in range(4):
            pair = (_activated(ops.Conv2d(width, width, 3, 1, 1), width) for _ in range(2))
            self.add_module(f"convblock{index}", nn.Sequential(*pair))
        self.conv1, self.conv2 = (_enlarging(width, planes, ops) for planes in (4, 1))

    def forward(self, pictures: Tensor, flow: Tensor, factor: float) -> tuple[Tensor, Tensor]:
        """Changes of flow and mask, float32, at full size."""
        dtype = self.conv0[0][0].weight.dtype
        seen = torch.cat((resample(pictures, 1 / factor), resample(flow, 1 / factor) / factor), 1)
        x = self.conv0(seen.to(dtype))
        for index in range(4):
            x = self.get_submodule(f"convblock{index}")(x) + x
        flow, mask = self.conv1(x).float(), self.conv2(x).float()
        return resample(flow, factor) * factor, resample(mask, factor)


def _activated(convolution: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(convolution, nn.PReLU(width))


def _enlarging(width: int, planes: int, ops: Any) -> nn.Sequential:
    return nn.Sequential(
        ops.ConvTranspose2d(width, width // 2, 4, 2, 1),
        nn.PReLU(width // 2),
        ops.ConvTranspose2d(width // 2, planes, 4, 2, 1),
    )


def _swapped(flow: Tensor) -> Tensor:
    return torch.cat((flow[:, 2:4], flow[:, :2]), 1)
