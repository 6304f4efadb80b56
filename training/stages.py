"""The trainings in their order, each on what the ones before have left in a folder."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wan.load.image import load_image_encoder
from wan.load.text import load_text_encoder
from wan.load.tokenizer import open_tokenizer

from . import animation, autoencoder, image_to_video, lora, transformer
from .data import PORTRAIT, SQUARE, Figures, FigureVideos, SceneVideos, Videos, to_tensor
from .loop import Run
from .text import Texts, write_encoders

AUTOENCODERS = {"scenes": "image to video", "figures": "animation"}
"""What each one learns from, and whom it serves."""
_UNSEEN = 90_000
"""Seeds from here on are never learnt from."""
log = logging.getLogger("training")


@dataclass(frozen=True)
class Workshop:
    """Where everything is kept, and how much of it there is."""

    folder: Path
    scale: float = 1.0
    """Of the amount of data; tests take next to none."""
    seed: int = 0
    compiled: bool = False
    device: str = "cpu"
    """That computes."""

    def run(self, name: str, seconds: float, max_steps: int = 1_000_000) -> Run:
        """A training of that name."""
        return Run(name, self.folder, seconds, max_steps, self.seed, self.device, self.compiled)

    def figures(self, size: tuple[int, int], unseen: bool = False) -> Figures:
        """Puppets of that size."""
        count = max(2, round((20 if unseen else 160) * self.scale))
        seed = self.seed + (_UNSEEN if unseen else 0)
        return Figures(seed, count, size, self.folder)

    def videos(self, kind: str) -> Videos:
        """What an autoencoder learns from."""
        return SceneVideos() if kind == "scenes" else FigureVideos(self.figures(SQUARE))


def train_autoencoder(shop: Workshop, kind: str, seconds: float, max_steps: int) -> Path:
    """Train, fold the latents' statistics in, and save.

    Returns:
        A `vae` folder in Diffusers layout.
    """
    torch.manual_seed(shop.seed)
    name, videos = f"vae-{kind}", shop.videos(kind)
    vae = autoencoder.train(shop.run(name, seconds, max_steps), videos)
    autoencoder.fold_statistics(vae, _latents(vae, videos, max(2, round(40 * shop.scale))))
    target = shop.folder / name
    autoencoder.save(vae, target)
    log.info("%s: %.2f dB on unseen clips", name, _quality(shop, kind))
    return target


def train_decoder(shop: Workshop, kind: str, seconds: float, max_steps: int) -> Path:
    """Sharpen a trained autoencoder without touching its latents; transformers stay valid.

    Returns:
        The `vae` folder, written anew.
    """
    target = shop.folder / f"vae-{kind}"
    run = shop.run(f"decoder-{kind}", seconds, max_steps)
    begun = target.with_suffix(".begun")  # what an interrupted run began with
    if not begun.is_dir():
        shutil.copytree(target, begun)
    learned = autoencoder.train_decoder(run, open_autoencoder(begun), shop.videos(kind))
    autoencoder.save(learned, target)
    log.info("decoder-%s: %.2f dB", kind, _quality(shop, kind))
    return target


def _quality(shop: Workshop, kind: str) -> float:
    unseen = shop.videos(kind) if kind == "scenes" else FigureVideos(shop.figures(SQUARE, True))
    vae = open_autoencoder(shop.folder / f"vae-{kind}")
    return autoencoder.measure(vae, unseen, max(2, round(64 * shop.scale)))


def _latents(vae: nn.Module, videos: Videos, batches: int) -> Iterator[Tensor]:
    generator = np.random.default_rng(1)
    with torch.no_grad():
        for _ in range(batches):
            clips = [to_tensor(videos.draw(generator, 9, 64)) for _ in range(4)]
            yield autoencoder.encode(vae, torch.cat(clips))[0]


def open_autoencoder(folder: Path) -> nn.Module:
    """A trained one, as it will be shipped, ready for whole clips."""
    from diffusers import AutoencoderKLWan

    vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=torch.float32)
    return autoencoder.at_once(vae.eval().requires_grad_(False))


def open_texts(shop: Workshop) -> tuple[Texts, nn.Module]:
    """The text side, and the image encoder."""
    root = shop.folder / "encoders"
    write_encoders(root)
    tokenizer = open_tokenizer(root / "tokenizer")
    texts = Texts(tokenizer, load_text_encoder(root / "text_encoder", torch.float32))
    return texts, load_image_encoder(root / "image_encoder", torch.float32)


def train_image_to_video(shop: Workshop, seconds: float, max_steps: int) -> Path:
    """Encode scenes, train on them, save.

    Returns:
        A `transformer` folder in Diffusers layout.
    """
    texts, image_encoder = open_texts(shop)
    vae = open_autoencoder(shop.folder / "vae-scenes").to(shop.device)
    log.info("Encoding scenes")
    seen = image_to_video.all_clips(vae, image_encoder, texts, shop.seed, shop.scale, shop.folder)
    unseen = image_to_video.all_clips(
        vae, image_encoder, texts, _UNSEEN, shop.scale / 40, shop.folder
    )
    torch.manual_seed(shop.seed)
    begun = transformer.begin(image_to_video.make())
    run = shop.run("image-to-video", seconds, max_steps)
    return _save(transformer.train(run, begun, seen, unseen), shop.folder / "image-to-video")


def train_lora(shop: Workshop, seconds: float, max_steps: int) -> Path:
    """Teach the trained image-to-video miniature to jump.

    Returns:
        The LoRA's file.
    """
    from diffusers import WanTransformer3DModel

    texts, image_encoder = open_texts(shop)
    vae = open_autoencoder(shop.folder / "vae-scenes").to(shop.device)
    seen, unseen = (
        image_to_video.clips_of(kind, vae, image_encoder, seed, shop.folder).batches(texts)
        for kind, seed in (
            (image_to_video.JUMPS.scaled(shop.scale), shop.seed + 500),
            (image_to_video.JUMPS.scaled(shop.scale / 20), _UNSEEN + 500),
        )
    )
    torch.manual_seed(shop.seed)
    trained = WanTransformer3DModel.from_pretrained(
        shop.folder / "image-to-video", torch_dtype=torch.float32
    )
    run = shop.run("lora", seconds, max_steps)
    learned = transformer.train(run, lora.add(trained), seen, unseen)
    path = shop.folder / "jumps.safetensors"
    lora.save(learned, path)
    return path


def train_animation(shop: Workshop, seconds: float, max_steps: int) -> Path:
    """Paint and encode figures, train on them, save.

    Returns:
        A `transformer` folder in Diffusers layout.
    """
    texts, image_encoder = open_texts(shop)
    vae = open_autoencoder(shop.folder / "vae-figures").to(shop.device)
    torch.manual_seed(shop.seed)
    begun = transformer.begin(animation.make())
    motion_encoder = begun.motion_encoder.half().float()  # it stays as it is, and so is shipped
    parts = vae, image_encoder, motion_encoder
    log.info("Painting and encoding figures")
    seen, unseen = (
        animation.all_clips(
            {size: shop.figures(size, is_unseen) for size in (SQUARE, PORTRAIT)},
            parts,
            texts,
            shop.seed + is_unseen * _UNSEEN,
            shop.scale / (20 if is_unseen else 1),
            shop.folder,
        )
        for is_unseen in (False, True)
    )
    begun.motion_encoder = animation.Motions()
    run = shop.run("animation", seconds, max_steps)
    learned = transformer.train(run, begun, seen, unseen)
    learned.motion_encoder = motion_encoder
    return _save(learned, shop.folder / "animation")


def _save(learned: nn.Module, folder: Path) -> Path:
    from .short_text import lengthen

    lengthen(learned)
    learned.half().save_pretrained(folder)
    learned.float()
    return folder
