"""Sound: samples, and reading them from a video file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import Reporter
from .video import decoded, opened

_GAP_SECONDS = 0.1  # smaller jumps are times rounded to milliseconds


@dataclass(frozen=True)
class Audio:
    """Sound: `samples` [channels, n] float32 in -1..1, `rate` of them per second."""

    samples: Tensor
    rate: int


def read_sound(path: Path, begin: float, length: float, reporter: Reporter) -> Audio | None:
    """The sound from `begin` on the file's clock, `length` seconds or as far as it goes."""
    import av

    samples, rate, at, end = torch.empty(0, 0), 0, None, 0
    # Interleaved: taking eight channels apart (7.1) crashes PyAV 18.
    resampler = av.AudioResampler(format="flt")
    try:
        with opened(path) as (container, _):
            stream = container.streams.audio[0]
            if stream.codec_context is None:  # there is no decoder, and PyAV 14 crashes
                raise ValueError(stream)
            for frame in decoded(container, stream):
                reporter.check_cancelled()
                for part in resampler.resample(frame):
                    mixed, rate = torch.from_numpy(part.to_ndarray()), part.sample_rate
                    block = mixed.view(-1, part.layout.nb_channels).T  # N C -> C N
                    due = at or 0 if frame.time is None else round((frame.time - begin) * rate)
                    if at is None:
                        samples = torch.zeros(len(block), round(length * rate))
                    if at is None or abs(due - at) > _GAP_SECONDS * rate:
                        at = due
                    kept = block[:, max(0, -at) : max(0, samples.shape[1] - at)]
                    samples[:, max(0, at) :][:, : kept.shape[1]] = kept
                    at += block.shape[1]
                    end = max(end, min(at, samples.shape[1]))
                if at is not None and at >= samples.shape[1]:
                    break
    except (InputError, ValueError):  # sound is not worth the loss of the run
        reporter.note(f"The sound of {path.name!r} cannot be read; it is left out.")
        return None
    return Audio(samples[:, :end], rate) if end else None
