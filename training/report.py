"""Measures what is shipped, for the model cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from . import autoencoder
from .data import SQUARE, FigureVideos, to_tensor
from .figure_trial import joints_apart, try_figure
from .stages import Workshop, open_autoencoder
from .trial import measure, measure_lora, open_model

_CLIPS, _SCENES, _FIGURES = 64, 100, 6
_UNSEEN_FIGURES = 72_000


def measure_all(shop: Workshop, target: Path) -> dict[str, Any]:
    """Everything that the cards say.

    Args:
        shop: with the trainings' logs.
        target: `assets/wan-mini`.
    """
    i2v, animate = open_model(target / "i2v"), open_model(target / "animate")
    lora = target / "loras" / "jumps.safetensors"
    found: dict[str, Any] = {
        "vae_psnr": _quality(target / "i2v" / "vae", shop, "scenes"),
        "figures_psnr": _quality(target / "animate" / "vae", shop, "figures"),
        "vae_parameters": _millions(target / "i2v" / "vae"),
        "i2v_parameters": _millions(target / "i2v" / "transformer"),
        "animate_parameters": _millions(target / "animate" / "transformer"),
        "i2v_size": _megabytes(target / "i2v"),
        "animate_size": _megabytes(target / "animate"),
        "lora_size": f"{lora.stat().st_size / 1e6:.2f}",
    }
    vae = open_autoencoder(target / "i2v" / "vae")
    followed = measure(i2v, lambda clips: _shown(vae, clips), _SCENES)
    found["shown"] = followed["as shown"]
    for scale in ("1", "2", "4"):
        for name, key in (("exact", "exact"), ("motion", "motion"), ("psnr", "PSNR to truth")):
            found[f"{name}_{scale}"] = followed[f"guidance {scale}, {key}"]
    found |= {f"{key}_none": followed[f"no prompt, {key}"] for key in ("exact", "motion")}
    jumped = measure_lora(i2v, lora)
    found |= {"lora_off": jumped["LoRA 0"], "lora_half": jumped["LoRA 0.5"]}
    found["lora_on"] = jumped["LoRA 1"]
    for mode in ("animation", "replacement"):
        trials = [try_figure(animate, mode, _UNSEEN_FIGURES + n) for n in range(_FIGURES)]
        apart = np.concatenate([joints_apart(trial) for trial in trials])
        found[f"joints_{mode}"] = f"{np.median(apart):.1f} px; {np.mean(apart <= 3):.3f}"
    return found | _logged(shop.folder / "log.jsonl")


@torch.no_grad()
def _shown(vae: nn.Module, clips: list[np.ndarray]) -> list[np.ndarray]:
    """What an autoencoder makes of clips [T, H, W, 3] uint8."""
    videos = torch.cat([to_tensor(clip) for clip in clips])
    videos = videos.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        made = autoencoder.decode(vae, autoencoder.encode(vae, videos)[0])
    pixels = made.float().clamp(-1, 1).add(1).mul(127.5)
    return list(pixels.permute(0, 2, 3, 4, 1).numpy())


def _quality(folder: Path, shop: Workshop, kind: str) -> str:
    unseen = shop.videos(kind)
    if kind == "figures":
        unseen = FigureVideos(shop.figures(SQUARE, unseen=True))
    return f"{autoencoder.measure(open_autoencoder(folder), unseen, _CLIPS):.1f}"


def _millions(folder: Path) -> str:
    with safe_open(folder / "diffusion_pytorch_model.safetensors", "pt") as file:
        total = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 - no mapping
    return f"{total / 1e6:.2f}"


def _megabytes(folder: Path) -> str:
    return f"{sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e6:.1f}"


def _logged(log: Path) -> dict[str, Any]:
    """The last line of each training."""
    prefixes = {
        "vae-scenes": "vae",
        "vae-figures": "figures",
        "decoder-scenes": "decoder",
        "decoder-figures": "figures_decoder",
        "image-to-video": "i2v",
        "animation": "animate",
        "lora": "lora",
    }
    found: dict[str, Any] = {}
    for line in map(json.loads, log.read_text("utf-8").splitlines()):
        prefix = prefixes[line["run"]]
        found |= {f"{prefix}_steps": line["step"], f"{prefix}_loss": line["loss"]}
        if "unseen" in line:
            found[f"{prefix}_unseen"] = line["unseen"]
    return found
