"""In 16 bits the own forward is no farther from float32 than the module's own is."""

import pytest
import torch
from wan_local.wan.geometry import LatentShape
from wan_local.wan.load.transformer import load_transformer
from wan_local.wan.miniatures import MINI_FOLDER
from wan_local.wan.sample.cache import ResidualCache
from wan_local.wan.sample.cross import Branch
from wan_local.wan.sample.face import embed_face, encode_motion
from wan_local.wan.sample.forward import (
    Network,
    Step,
    embed_context,
    embed_pose,
    embed_time,
    predict_velocities,
)
from wan_local.wan.sample.rope import Rotary, rotary_tables

FRAMES, HEIGHT, WIDTH = 4, 8, 8
WHEN = torch.tensor([700])
DRAWS = 4
MARGIN = 1.05
"""Errors are sums of many roundings; between two orders of the same ones they differ a little."""


def given(model, dtype, seed):
    """Latents, text, picture, and for an animation pose and face."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "latents": (1, 36, FRAMES, HEIGHT, WIDTH),
        "text": (1, 512, model.config.text_dim),
        "image": (1, 257, model.config.image_dim),
    }
    if hasattr(model, "face_adapter"):
        size = model.config.motion_encoder_size
        shapes |= {"pose": (1, 16, FRAMES - 1, HEIGHT, WIDTH), "faces": (9, 3, size, size)}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    drawn["text"][:, 20:] = 0
    return {name: value.to(dtype) for name, value in drawn.items()}


def stock(model, dtype, seed):
    x = given(model, dtype, seed)
    more = {}
    if "faces" in x:
        more = {
            "pose_hidden_states": x["pose"],
            "face_pixel_values": x["faces"].permute(1, 0, 2, 3)[None],
        }
    return model(x["latents"], WHEN, x["text"], x["image"], return_dict=False, **more)[0]


def own(model, dtype, seed):
    x = given(model, dtype, seed)
    rotary = Rotary.of(
        rotary_tables(model.rope, LatentShape(FRAMES, HEIGHT, WIDTH), None, torch.device("cpu"))
    )
    pose, faces = None, ()
    if "faces" in x:
        pose = embed_pose(model, x["pose"])
        faces = embed_face(model, encode_motion(model, x["faces"], lambda: None))
    branch = Branch(embed_context(model, x["text"], x["image"]), faces)
    moment = embed_time(model, WHEN, x["latents"])
    network, step = Network(model, rotary, pose=pose), Step(ResidualCache())
    return predict_velocities(network, x["latents"], moment, [branch], step, lambda: None)[0]


def away(found, expected):
    return float((found.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["i2v", "animate"])
@torch.inference_mode()
def test_rounding_takes_no_more_than_in_the_stock_forward(name, dtype):
    folder = MINI_FOLDER / name / "transformer"
    whole, half = load_transformer(folder, torch.float32), load_transformer(folder, dtype)
    errors = {own: 0.0, stock: 0.0}
    for seed in range(DRAWS):
        expected = stock(whole, torch.float32, seed)
        for way in errors:
            errors[way] += away(way(half, dtype, seed), expected) / DRAWS
    assert 1e-4 < errors[own] < MARGIN * errors[stock]
