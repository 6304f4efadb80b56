"""FLUX.1-Kontext from a local Diffusers folder, its models owned by a placement like all others."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from ...errors import MissingFileError, ModelError
from ...residency import Part, Placement
from .edit import ALTERNATIVE, DOWNLOAD

_INDEX = "model_index.json"
_CLASS = "FluxKontextPipeline"
_TEXT_PARTS = ("text_encoder", "text_encoder_2")
_IMAGE_PARTS = ("vae", "transformer")
# 512 text tokens and twice a million pixels as 16 x 16 patches, 19 + 38 blocks of width 3072
# (black-forest-labs/FLUX.1-Kontext-dev transformer/config.json), and the VAE's decoding.
_WORK_BYTES = 4 << 30


class Kontext:
    """Called like `FluxKontextPipeline`, with only one half of its models on the device at a time.

    Nothing is read before the first call.

    Args:
        folder: Diffusers folder of FLUX.1-Kontext-dev.
        placement: who owns the models and where they compute.
        dtype: of the weights; None: bfloat16, on the CPU float32.
    Raises:
        MissingFileError: the folder, or one of its parts, is not there.
        ModelError: it holds another pipeline.
    """

    def __init__(
        self, folder: Path, placement: Placement, dtype: torch.dtype | None = None
    ) -> None:
        _check(folder)
        self._folder = folder
        self._device = placement.device
        on_cpu = self._device.type == "cpu"
        self._dtype = dtype or (torch.float32 if on_cpu else torch.bfloat16)
        self._parts = {
            name: Part(f"FLUX {name}", lambda name=name: self._load(name), placement)
            for name in (*_TEXT_PARTS, *_IMAGE_PARTS)
        }
        self._texts: dict[str, dict[str, torch.Tensor]] = {}

    def __call__(self, *, prompt: str, **arguments: Any) -> Any:
        """Edit an image; arguments and result are those of `FluxKontextPipeline`."""
        text = self._encode(prompt)
        vae, transformer = (self._parts[name] for name in _IMAGE_PARTS)
        with vae.on_device() as decoder, transformer.on_device(_WORK_BYTES) as denoiser:
            pipeline = self._pipeline(vae=decoder, transformer=denoiser)
            return pipeline(**text, **arguments)

    def _encode(self, prompt: str) -> dict[str, torch.Tensor]:
        # Both pictures often get the same prompt, and the larger encoder is 10 GB to move.
        if prompt not in self._texts:
            clip, t5 = (self._parts[name] for name in _TEXT_PARTS)
            with clip.on_device() as small, t5.on_device() as large, torch.inference_mode():
                pipeline = self._pipeline(text_encoder=small, text_encoder_2=large)
                tokens, pooled, _ = pipeline.encode_prompt(
                    prompt=prompt, prompt_2=None, device=self._device
                )
            self._texts[prompt] = {"prompt_embeds": tokens, "pooled_prompt_embeds": pooled}
        return self._texts[prompt]

    def _pipeline(self, **models: torch.nn.Module) -> Any:
        from diffusers import FluxKontextPipeline

        tools = self._open().components
        pipeline = FluxKontextPipeline(**{**tools, **models})  # reads nothing: they are all here
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _load(self, name: str) -> torch.nn.Module:
        return getattr(self._open(name), name).eval().requires_grad_(False)

    def _open(self, *wanted: str) -> Any:
        """The pipeline with tokenizers and scheduler, and of the models only those wanted."""
        from diffusers import FluxKontextPipeline
        from safetensors import SafetensorError

        absent = dict.fromkeys(set(self._parts) - set(wanted))
        try:
            with warnings.catch_warnings():
                # `torch_dtype` is the only spelling that all supported versions know.
                warnings.simplefilter("ignore", FutureWarning)
                return FluxKontextPipeline.from_pretrained(
                    self._folder, torch_dtype=self._dtype, local_files_only=True, **absent
                )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                what=f"{', '.join(wanted) or 'tokenizers'} of '{self._folder.name}' cannot be "
                f"read ({str(error).splitlines()[0]}).",
                why="A file is damaged or missing.",
                fix=f"{DOWNLOAD} again.",
            ) from error


def _check(folder: Path) -> None:
    index = folder / _INDEX
    if not index.is_file():
        raise MissingFileError(
            what=f"'{folder}' is no Diffusers folder: there is no {_INDEX} in it.",
            why="use_flux edits two pictures with FLUX.1-Kontext, which is read from such a "
            "folder, not from a single file.",
            fix=f"{DOWNLOAD}, {ALTERNATIVE}.",
        )
    try:
        content = json.loads(index.read_text("utf8"))
        found = content.get("_class_name")
    except (ValueError, AttributeError):
        found = None
    if found != _CLASS:
        raise ModelError(
            what=f"'{folder.name}' holds {found or 'an unreadable index'}, not {_CLASS}.",
            why="Other FLUX models make pictures from text; only Kontext edits one.",
            fix=f"{DOWNLOAD}.",
        )
    missing = [
        name
        for name in (*_TEXT_PARTS, *_IMAGE_PARTS, "tokenizer", "tokenizer_2", "scheduler")
        if not (folder / name).is_dir()
    ]
    if missing:
        raise MissingFileError(
            what=f"'{folder.name}' lacks {', '.join(missing)}.",
            why="Each of them is a folder of its own inside.",
            fix=f"{DOWNLOAD} completely.",
        )
