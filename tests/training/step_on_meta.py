"""One step of each training on PyTorch's meta device, which refuses what stays behind on the CPU.

Prints where each loss was.
"""

import sys
from contextlib import nullcontext

import torch

from training import animation, autoencoder, image_to_video, transformer
from training.transformer import Batch


def batch(moves):
    """Two clips of 5 frames and 32 pixels, on the CPU."""
    frames = 3 if moves else 2
    return Batch(
        torch.zeros(2, 16, frames, 4, 4),
        torch.zeros(2, 20, frames, 4, 4),
        torch.zeros(2, 16, 64),
        torch.tensor([3, 5]),
        torch.zeros(2, 5, 32),
        torch.zeros(2, 16, 2, 4, 4) if moves else None,
        torch.zeros(2, 3, 5, 64, 64) if moves else None,
    )


torch.autocast = lambda *_, **__: nullcontext()  # which that device has not
vae = autoencoder.make().to("meta")
loss = autoencoder._loss(vae, torch.zeros(1, 3, 5, 32, 32, device="meta"))
loss.backward()
sys.stdout.write(f"{loss.device}\n")
for kind in (image_to_video, animation):
    model = transformer.begin(kind.make())
    processor = transformer.shorten(model, 5)
    generator = torch.Generator().manual_seed(0)
    given = batch(kind is animation)
    loss = transformer.flow_loss(model.to("meta"), processor, given, generator)
    loss.backward()
    sys.stdout.write(f"{loss.device}\n")
