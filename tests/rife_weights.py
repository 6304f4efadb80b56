"""RIFE state dicts as the published files hold them, with the deterministic fill of i2v.md A28."""

import json
import math
from pathlib import Path

import torch
from wan_local.wan.upsample.rife.layout import Encoder, Layout
from wan_local.wan.upsample.rife.load import build_rife

GOLDEN = json.loads((Path(__file__).parent / "golden" / "rife.json").read_text("utf8"))
_HD = (192, 128, 96, 64)
_FOUR, _FIVE = (8, 4, 2, 1), (16, 8, 4, 2, 1)
# i2v.md 9, and for those not in it HolyWu/vs-rife: widths, factors, encoder, features, planes
LAYOUTS = {
    "4.7": Layout("4.7 to 4.9", _HD, _FOUR, encoder=Encoder(2, 16, 4)),
    "4.10": Layout("4.10 to 4.19 or 4.24", _HD, _FOUR, encoder=Encoder(4, 32, 8)),
    "4.12 lite": Layout("4.12 to 4.17 lite", (128, 96, 64, 48), _FOUR, encoder=Encoder(4, 32, 4)),
    "4.14 lite": Layout("4.14 lite", _HD, _FOUR, groups=2, encoder=Encoder(4, 32, 8)),
    "4.17": Layout("4.10 to 4.19 or 4.24", _HD, _FOUR, encoder=Encoder(4, 32, 8)),
    "4.17 lite": Layout("4.12 to 4.17 lite", (128, 96, 64, 48), _FOUR, encoder=Encoder(4, 16, 4)),
    "4.20": Layout("4.20", (384, 192, 96, 48), _FOUR, encoder=Encoder(4, 32, 8)),
    "4.22": Layout("4.21 to 4.23", (256, 192, 96, 48), _FOUR, 8, 1, Encoder(4, 32, 8), 8, 13),
    "4.22 lite": Layout("4.22 lite", (192, 128, 64, 32), _FOUR, 8, 1, Encoder(4, 16, 4), 8, 13),
    "4.25": Layout("4.25 or 4.26", (*_HD, 32), _FIVE, 8, 1, Encoder(4, 16, 4), 8, 13),
    "4.25 lite": Layout("4.25 lite", (*_HD, 24), (32, 16, 8, 4, 1), 8, 1, Encoder(4, 16, 4), 8, 13),
    "4.25 heavy": Layout(
        "4.25 heavy", (384, 256, 192, 128, 64), _FIVE, 8, 1, Encoder(4, 16, 4), 8, 13
    ),
    "4.26 heavy": Layout("4.26 heavy", (*_HD, 32), _FIVE, 8, 1, Encoder(4, 16, 16), 8, 13),
    "3 HD": Layout("v3 HD", (90, 90, 90), (4, 2, 1)),
}
LAYOUTS["small"] = Layout(
    "4 of an unusual size", (8,) * 5, _FIVE, 2, 1, Encoder(4, 8, 4), features=8, planes=13
)
"""As 4.25, but quickly written and read."""
NUMBERED = {"4.7": (0, 1), "4.10": (0, 2, 4, 6), "4.12 lite": (0, 2, 4, 6)}
"""Where the encoder is a plain sequence: the places of its convolutions."""
_TEACHER_INPUTS = 14


def shapes(name):
    """Shapes by name as in the file, without what only training needs except v3's teacher."""
    found = {}
    for key, tensor in build_rife(LAYOUTS[name]).state_dict().items():
        for index, place in enumerate(NUMBERED.get(name, ())):
            key = key.replace(f"encode.cnn{index}.", f"encode.{place}.")
        found[key] = tuple(tensor.shape)
    if name == "3 HD":
        for key, shape in list(found.items()):
            if key.startswith("block0."):
                wide = key == "block0.conv0.0.0.weight"
                teacher = (shape[0], _TEACHER_INPUTS, *shape[2:]) if wide else shape
                found[key.replace("block0.", "block_tea.")] = teacher
    return found


def fill(table, gain):
    """Sines in every tensor, so that a network's output is the same everywhere."""
    tensors = {}
    for index, (name, shape) in enumerate(sorted(table.items())):
        count = math.prod(shape)
        amplitude = gain / math.sqrt(count // shape[0]) if len(shape) > 1 else 0.05
        values = amplitude * torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + index)
        tensors[name] = values.float().reshape(shape) + name.endswith("beta")
    return tensors


def picture(phase, height, width):
    """[1, 3, height, width] of waves."""
    y = torch.arange(height, dtype=torch.float64)[:, None]
    x = torch.arange(width, dtype=torch.float64)
    waves = [0.5 + 0.5 * torch.sin(0.1 * x + 0.05 * y * (c + 1) + phase) for c in range(3)]
    return torch.stack(waves).float().unsqueeze(0)


def write(path, tensors):
    """A file in the format that its suffix says."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path
