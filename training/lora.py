"""A LoRA for the image-to-video miniature: one motion that it did not know."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

RANK = 8
_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2")


class Change(nn.Module):
    """A low-rank change of a weight, zero at first."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.empty(RANK, columns))
        self.up = nn.Parameter(torch.zeros(rows, RANK))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.up @ self.down


def add(transformer: nn.Module) -> nn.Module:
    """Let only changes of the blocks' linear layers be learnt."""
    transformer.requires_grad_(False)
    for name, layer in list(transformer.blocks.named_modules()):
        if isinstance(layer, nn.Linear) and name.endswith(_LAYERS):
            parametrize.register_parametrization(layer, "weight", Change(layer.weight))
    return transformer


def save(transformer: nn.Module, path: Path) -> None:
    """Write the changes as Diffusers spells a LoRA, 16 bits a number."""
    tensors: dict[str, Tensor] = {}
    for name, layer in transformer.blocks.named_modules():
        if parametrize.is_parametrized(layer):
            change = layer.parametrizations.weight[0]
            tensors[f"transformer.blocks.{name}.lora_A.weight"] = change.down.half().contiguous()
            tensors[f"transformer.blocks.{name}.lora_B.weight"] = change.up.half().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
