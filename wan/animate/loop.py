"""The clip loop: every clip is encoded, sampled and decoded, and its last frames begin the next."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ..clips import Clip, check_clip, plan_clips
from ..decode.colour import Palette, check_match, match_palette, measure_palette
from ..decode.vae import decode_frames
from ..encode.animate import encode_clip
from ..errors import GeometryError
from ..geometry import TEMPORAL_STRIDE, LatentShape, latent_shape
from ..load.lora.apply import apply_lora
from ..payloads import AnimateCondition, Mode, TextEmbeds, VideoLatents, WanModel, expect_animate
from ..progress import Reporter
from ..sample.clip import sample_clip
from ..sample.denoise import guided_texts
from ..sample.guidance import Guidance
from ..sample.schedule import Solver
from ..sample.settings import SampleSettings
from ..sample.workload import Workload
from ..seeds import draw_noise, make_generator, resolve_seed
from ..tiling import plan_tiles
from .key import run_key
from .progress import ClipProgress
from .store import ClipStore, FinishedClip, Saved, kept_clips, temporary_clips, to_store

log = logging.getLogger("wan_local")
_MANY_CLIPS = 5  # from here on users report that colours drift visibly


@dataclass(frozen=True)
class AnimateSettings:
    """How a character animation is made."""

    sample: SampleSettings = field(
        default=SampleSettings(steps=20, guidance=Guidance(1.0, cfg_star=False), solver="dpm++")
    )
    """Of each clip. A guidance scale above 1 strengthens the expression at twice the time."""
    clip_len: int = 77
    """Frames sampled together, 4n+1."""
    carry: int = 1
    """Frames that each clip takes over from the one before: 1 or 5."""
    colour_match: str = "off"
    """One of `COLOUR_MATCHES`: holds the colours of later clips."""
    tile_size: int = 0
    """Side of the VAE's tiles in pixels: 0 (whole pictures), 128 or 256."""
    frees_memory: bool = False
    """Whether VAE and transformer leave the device each time the other one is at work."""


@dataclass(frozen=True)
class Places:
    """Where the clips of a long video wait."""

    kept: Path | None = None
    """Folder of runs that can be continued after an interruption; None: this one cannot."""
    scratch: Path | None = None
    """For a run that cannot; None: the system's folder for temporary files."""
    saved: Saved | None = None
    """Called with each file below `kept` that is complete."""


@dataclass(frozen=True)
class Animation:
    """A finished character animation. Ends with `close`, which lets go of its frames."""

    store: ClipStore
    seed: int
    """The seed that was used."""
    num_frames: int
    width: int
    """Pixels."""
    height: int
    """Pixels."""

    def frames(self) -> Iterator[Tensor]:
        """All frames in order, a few [t, H, W, 3] uint8 at a time; can be asked for again."""
        return self.store.frames()

    def close(self) -> None:
        """Let go of the frames, and of what an interrupted run would need."""
        self.store.discard()


def animate(
    model: WanModel,
    text: TextEmbeds,
    condition: AnimateCondition,
    settings: AnimateSettings,
    reporter: Reporter,
    places: Places | None = None,
    previous: Tensor | None = None,
) -> Animation:
    """Animate or replace a character over the whole driving video.

    Args:
        model: Animate weights.
        text: embedded prompts; the negative may be missing only without guidance.
        condition: of the whole video.
        settings: clips, sampling and options.
        reporter: one phase for all clips, with a preview per step.
        places: where finished clips wait. Where runs are kept, one that was interrupted goes on
            after its last finished clip, with the result it would have had.
        previous: [P, H, W, 3] in 0..1 or uint8, an earlier result of this size that this one
            continues. Its last `settings.carry` frames are those that the driving video begins
            with; they are not made again and are no part of the result.
    Returns:
        All frames of the driving video, or all but the `carry` first ones if it continues.
    Raises:
        GeometryError, InputError: lengths, sizes or choices that do not fit each other.
        ModelError: the weights are of another kind.
        OutputError: a finished clip cannot be written.
    """
    expect_animate(model)
    check_settings(settings)
    plan = plan_clips(condition.num_frames, settings.clip_len, settings.carry, previous is not None)
    forwards = len(guided_texts(text, settings.sample))
    model = relit(model, condition, reporter)
    carried = None if previous is None else _last_frames(previous, condition, settings.carry)
    store, seed = _open_store(model, text, condition, settings, plan, places, carried, reporter)
    progress = ClipProgress(reporter, len(plan), settings.sample.steps, forwards)
    run = _Run(model, text, condition, settings, store, progress)
    _tell(plan, condition, settings, store, reporter)
    reporter.note(Workload(model, run.shape, settings.sample, forwards).describe())
    try:
        _run_clips(run, plan, seed, carried)
    except BaseException:
        if places is None or places.kept is None:
            store.discard()
        raise
    if model.notice:
        reporter.note(model.notice)
    count = sum(clip.kept for clip in plan)
    return Animation(store, seed, count, condition.width, condition.height)


def check_settings(settings: AnimateSettings) -> None:
    """Refuse settings that cannot be used, before any work.

    Raises:
        GeometryError, InputError: one is out of its range.
    """
    sample = settings.sample
    check_clip(settings.clip_len, settings.carry)
    check_match(settings.colour_match)
    plan_tiles(1, 1, settings.tile_size)
    Solver(sample.solver, sample.steps, sample.shift)
    sample.guidance.check_steps(sample.steps)


def relit(model: WanModel, condition: AnimateCondition, reporter: Reporter) -> WanModel:
    """The model with the relighting LoRA that a replacement asks for."""
    light = condition.relighting
    if light is None or condition.mode is Mode.ANIMATION:
        return model
    return apply_lora(model, light.path, light.strength, reporter, allow_pickle=True)


@dataclass(frozen=True)
class _Run:
    """What all clips share."""

    model: WanModel
    text: TextEmbeds
    condition: AnimateCondition
    settings: AnimateSettings
    store: ClipStore
    progress: ClipProgress

    @property
    def shape(self) -> LatentShape:
        """Of the latents of one clip: that of the reference picture, then those of its frames."""
        of_clip = latent_shape(self.condition.width, self.condition.height, self.settings.clip_len)
        return replace(of_clip, frames=of_clip.frames + 1)

    def free(self) -> None:
        """Let VAE and transformer leave the device, if that was asked for."""
        if self.settings.frees_memory:
            for part in (self.model.vae, self.model.transformer):
                part.release()


def _run_clips(run: _Run, plan: tuple[Clip, ...], seed: int, carried: Tensor | None) -> None:
    generator, done = make_generator(seed), len(run.store)
    run.progress.open()
    for clip in plan:
        # Drawn for finished clips too: each clip gets the same noise as in a run without a break.
        noise = draw_noise(run.shape, generator)
        if clip.number < done:
            continue
        run.progress.begin(clip.number)
        before = run.store.tail() if clip.number else carried
        run.store.add(_make_clip(run, clip, noise, before))
    run.progress.begin(len(plan))


def _make_clip(run: _Run, clip: Clip, noise: Tensor, carried: Tensor | None) -> FinishedClip:
    model, settings, progress = run.model, run.settings, run.progress
    condition = encode_clip(model, run.condition, clip, carried, progress, settings.tile_size)
    run.free()
    sampled = sample_clip(model, run.text, condition, settings.sample, noise, progress)
    log.info("clip %d: %s", clip.number + 1, sampled.report.describe())
    run.free()
    finished = _decode_clip(run, clip, sampled.latents)
    run.free()
    return finished


def _decode_clip(run: _Run, clip: Clip, latents: Tensor) -> FinishedClip:
    settings, wanted = run.settings, clip.carried + clip.kept
    # What the last clip has beyond the video need not be decoded: nothing looks ahead to it.
    length = -(-(wanted - 1) // TEMPORAL_STRIDE) * TEMPORAL_STRIDE + 1
    video = VideoLatents(latents, length, seed=-1)
    frames = torch.empty(length, run.condition.height, run.condition.width, 3)
    for first, piece in decode_frames(
        run.model, video, run.progress, settings.tile_size, signed=True
    ):
        frames[first : first + len(piece)] = piece
    kept = frames[clip.carried : wanted]
    palette = _match_colours(run, clip, frames, kept)
    tail = frames[max(0, wanted - settings.carry) : wanted].clone()
    return FinishedClip(to_store(kept, run.progress), tail, palette)


def _match_colours(run: _Run, clip: Clip, frames: Tensor, kept: Tensor) -> Palette | None:
    """Match a clip to what was asked for; gives the palette of a first clip to be remembered."""
    choice = run.settings.colour_match
    if choice == "reference":
        target = measure_palette(run.condition.reference[None] / 127.5 - 1)
        match_palette(frames, measure_palette(kept), target)
    elif choice == "first clip":
        if clip.number == 0:
            return measure_palette(kept)
        target = run.store.palette()
        if target is not None:
            match_palette(frames, measure_palette(kept), target)
    return None


def _open_store(
    model: WanModel,
    text: TextEmbeds,
    condition: AnimateCondition,
    settings: AnimateSettings,
    plan: tuple[Clip, ...],
    places: Places | None,
    carried: Tensor | None,
    reporter: Reporter,
) -> tuple[ClipStore, int]:
    """Where the clips go, and the seed: that of an interrupted run which goes on."""
    places = places or Places()
    if places.kept is None or len(plan) == 1:
        size = sum(clip.kept for clip in plan) * condition.width * condition.height * 3
        store = temporary_clips(size, places.scratch)
        return store, resolve_seed(settings.sample.seed, reporter)
    key = run_key(model, text, condition, carried, settings)
    drawn = resolve_seed(settings.sample.seed)
    kept, seed = kept_clips(places.kept, key, drawn, places.saved)
    if seed != settings.sample.seed:
        reporter.note(f"seed {seed} was drawn")
    return kept, seed


def _last_frames(previous: Tensor, condition: AnimateCondition, carry: int) -> Tensor:
    """[carry, H, W, 3] float32 in -1..1."""
    size = condition.height, condition.width
    if previous.ndim != 4 or tuple(previous.shape[1:3]) != size or len(previous) < carry:
        found = f"{previous.shape[2]}x{previous.shape[1]}" if previous.ndim == 4 else "no video"
        raise GeometryError(
            what=f"The previous frames are {len(previous)} of {found}.",
            why=f"The last {carry} of them begin this video, which is {size[1]}x{size[0]}.",
            fix="Give the frames of an earlier result as they came out of the sampler.",
        )
    last = previous[-carry:, ..., :3].float().cpu()
    scale = 127.5 if previous.dtype == torch.uint8 else 0.5
    return (last / scale - 1).clamp_(-1, 1)


def _tell(
    plan: tuple[Clip, ...],
    condition: AnimateCondition,
    settings: AnimateSettings,
    store: ClipStore,
    reporter: Reporter,
) -> None:
    count = sum(clip.kept for clip in plan)
    reporter.note(
        f"{condition.mode.value}, {condition.width}x{condition.height}, {count} frames in "
        f"{len(plan)} clip{'s' if len(plan) > 1 else ''} of {settings.clip_len}"
    )
    if len(store):
        reporter.note(f"{len(store)} clips are there from a run that was interrupted; going on")
    if len(plan) >= _MANY_CLIPS and settings.colour_match == "off":
        reporter.note("Over many clips colours may drift: refert_num 5 or colour_match can help.")
