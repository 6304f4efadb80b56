"""E: a whole video from a picture, beside the stock pipeline on the same weights."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.measure import Row
from wan.decode.vae import decode_video
from wan.encode.condition import condition_on_image
from wan.encode.prompt import encode_prompts
from wan.load.files import find_files
from wan.load.model import load_model
from wan.payloads import WanModel
from wan.progress import Silent
from wan.residency import DevicePlacement
from wan.sample.guidance import Guidance
from wan.sample.settings import SampleSettings
from wan.sample.video import sample_video
from wan.tiny import ensure_tiny

ROOT = Path(__file__).resolve().parents[1]
MINI = ROOT / "assets" / "wan-mini" / "i2v"
PROMPT, NEGATIVE = "a red ball moves to the right", "blurred"
STEPS, SCALE, GOAL = 10, 3.0, 0.85


def rows(folder: Path) -> Iterator[Row]:
    """The random miniature, whose weights are the same everywhere, and the trained one."""
    models = [("tiny, random", tiny_folder(folder), 128, 17)]
    if MINI.is_dir():
        models.append(("trained miniature", MINI, 64, 9))
    for name, weights, side, frames in models:
        shape = (side, side, frames)
        ours = partial(run, load_model(find_files(weights), DevicePlacement("cpu")), *shape)
        peer = partial(run_stock, open_stock(weights), *shape)
        told = f"image to video, {name}, {side}x{side}, {STEPS} steps"
        yield Row(told, ours, peer, "diffusers' pipeline", frames, GOAL, id="E")


def tiny_folder(folder: Path) -> Path:
    """A Diffusers folder with random weights."""
    return ensure_tiny(folder) / "diffusers" / "wan2.1-i2v"


def picture(side: int) -> Image.Image:
    """What moves."""
    path = ROOT / "assets" / "sample.png"
    return Image.open(path).convert("RGB").resize((side, side))


def run(model: WanModel, width: int, height: int, frames: int) -> Tensor:
    """Ours, with nothing remembered from the run before."""
    model.text_encoder.memo.clear()
    model.vae.memo.clear()
    model.image_encoder.memo.clear()
    image = torch.from_numpy(np.asarray(picture(width))).float() / 255
    text = encode_prompts(model, PROMPT, NEGATIVE, Silent())
    condition = condition_on_image(model, image, width, height, frames, Silent())
    guidance = Guidance(SCALE, cfg_star=False)
    settings = SampleSettings(steps=STEPS, guidance=guidance, solver="unipc", shift=3.0, seed=1)
    return decode_video(model, sample_video(model, text, condition, settings, Silent()), Silent())


def open_stock(folder: Path) -> object:
    """diffusers' pipeline on the CPU."""
    from diffusers import WanImageToVideoPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    stock = WanImageToVideoPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    return stock


def run_stock(stock: object, width: int, height: int, frames: int) -> np.ndarray:
    """The same video with the same number of steps."""
    return stock(
        image=picture(width),
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        width=width,
        height=height,
        num_frames=frames,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    ).frames[0]
