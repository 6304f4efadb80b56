"""Sound that goes into a video file while its frames are written."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch

from ..errors import InputError
from ..progress import Reporter
from .sound import Audio

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_BITS_PER_CHANNEL = 96_000
"""Per second: transparent for AAC and Opus. Lossless encoders ignore it."""
_FINEST = ("fltp", "flt", "s32")  # the first that the encoder takes
_RATE = 48_000  # for what the encoder cannot keep at its own rate; every encoder knows this one


def check_sound(audio: Audio) -> None:
    """Refuse what no file can hold, before the work.

    Raises:
        InputError: another number of channels, or no rate.
    """
    channels = audio.samples.shape[0] if audio.samples.ndim == 2 else 0
    if channels not in _LAYOUTS or audio.rate < 1:
        raise InputError(
            what=f"The sound has the shape {list(audio.samples.shape)} at {audio.rate} Hz.",
            why="A video takes sound as [channels, samples] with 1, 2, 6 or 8 channels.",
            fix="Mix it down to stereo, or disconnect it.",
        )


class Soundtrack:
    """One stream of sound, cut to the time its frames take. Shorter sound stays as short.

    It is encoded anew rather than copied from a file: a copy can only be cut between packets (21 ms
    for AAC), needs a codec that the container takes, and nodes pass on samples anyway.

    Args:
        container: the PyAV container to write to, before its first packet.
        encoder: FFmpeg's name of the encoder.
        audio: what is heard, from the first frame on; see `check_sound`.
        fps: of the frames.
    """

    def __init__(self, container: Any, encoder: str, audio: Audio, fps: Fraction) -> None:
        import av

        self._container, self._audio, self._fps, self._at = container, audio, fps, 0
        self._layout = _LAYOUTS[len(audio.samples)]
        codec = av.Codec(encoder, "w")
        is_known = codec.audio_rates is None or audio.rate in codec.audio_rates
        self._stream = container.add_stream(encoder, rate=audio.rate if is_known else _RATE)
        known = {form.name for form in codec.audio_formats or ()}
        finest = next((name for name in _FINEST if name in known), None)
        if finest:
            self._stream.codec_context.format = finest
        self._stream.layout = self._layout
        self._stream.bit_rate = _BITS_PER_CHANNEL * len(audio.samples)
        self._has_nan = False

    def advance(self, frames: int) -> None:
        """Write the sound of the first `frames` frames, as far as it is not written yet."""
        end = min(round(frames / self._fps * self._audio.rate), self._audio.samples.shape[1])
        if end > self._at:
            for packet in self._encode(self._at, end):
                self._container.mux(packet)
            self._at = end

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._at:
            self._container.mux(self._stream.encode(None))

    def report(self, reporter: Reporter) -> None:
        """Note what was changed in the sound, if anything."""
        if self._has_nan:
            reporter.note("The sound holds values that are not numbers (NaN); they are silent.")

    def _encode(self, begin: int, end: int) -> list[Any]:
        import av

        samples = self._audio.samples[:, begin:end].to("cpu", torch.float32).clamp(-1, 1)
        self._has_nan |= bool(samples.isnan().any())
        # Interleaved: PyAV cannot take eight channels apart.
        block = samples.nan_to_num(0).T.reshape(1, -1).numpy()  # C N -> N C
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=self._layout)
        frame.sample_rate, frame.pts = self._audio.rate, begin
        frame.time_base = Fraction(1, self._audio.rate)
        return self._stream.encode(frame)
