"""Video files that can be written: container, encoder and what the words for quality mean there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..errors import InputError, UnavailableError

QUALITIES = ("best", "high", "medium", "low")
PRESETS = ("fast", "medium", "slow")
"""How long the encoder may look for a smaller file."""

ODD_SIZES = ("refuse", "crop")


@dataclass(frozen=True)
class VideoFormat:
    """A kind of file. `name` is what users choose and what saved graphs hold: never renamed."""

    name: str
    suffix: str
    container: str
    """FFmpeg's name of the file format."""
    encoder: str
    """FFmpeg's name of the encoder."""
    pixels: str
    """FFmpeg's name of the pixel format that is encoded."""
    sound: str
    """FFmpeg's name of the encoder for sound."""
    presets: tuple[Mapping[str, str], ...]
    """Encoder options for each of `PRESETS`."""
    qualities: tuple[int, ...] = ()
    """Constant rate factor for each of `QUALITIES`; none: lossless."""
    worst: int = 51
    """The largest constant rate factor."""
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_lossless(self) -> bool:
        """Whether pixels come back bit for bit."""
        return not self.qualities

    @property
    def is_rgb(self) -> bool:
        """Whether colours are stored as they are, at any size."""
        return self.pixels == "bgr0"

    @property
    def needs_even_sides(self) -> bool:
        """Whether colour is stored at half the size."""
        return not self.is_rgb


# The index comes first: players start at once, and ComfyUI's page, which reads 64 MB of a dropped
# file, always finds the graph. Without the second flag FFmpeg writes only tags that it knows.
_MP4 = {"movflags": "+faststart+use_metadata_tags"}
_X264_PRESETS = ({"preset": "veryfast"}, {"preset": "medium"}, {"preset": "slow"})

# The rate factors of one word give about one PSNR, measured on moving pictures with and without
# grain. 17 is where x264 is visually lossless for most pictures.
FORMATS = (
    VideoFormat(
        "mp4 H.264",
        ".mp4",
        "mp4",
        "libx264",
        "yuv420p",
        "aac",
        presets=_X264_PRESETS,
        qualities=(12, 17, 23, 28),
        # With "mbtree" x264 does not always write the same file from the same frames.
        options={"x264-params": "mbtree=0"},
        container_options=_MP4,
    ),
    VideoFormat(
        "mp4 H.264 lossless",
        ".mp4",
        "mp4",
        "libx264rgb",
        "bgr0",
        "aac",
        presets=_X264_PRESETS,
        options={"qp": "0"},
        container_options=_MP4,
    ),
    VideoFormat(
        "webm AV1",
        ".webm",
        "webm",
        "libsvtav1",
        "yuv420p",
        "libopus",
        presets=({"preset": "10"}, {"preset": "8"}, {"preset": "5"}),
        qualities=(14, 26, 42, 54),
        worst=63,
    ),
    VideoFormat(
        "webm VP9",
        ".webm",
        "webm",
        "libvpx-vp9",
        "yuv420p",
        "libopus",
        presets=({"cpu-used": "5"}, {"cpu-used": "3"}, {"cpu-used": "1"}),
        qualities=(8, 18, 32, 40),
        worst=63,
        options={"b": "0", "row-mt": "1"},  # no limit of the bit rate; all cores
    ),
    VideoFormat(
        "mkv FFV1 lossless",
        ".mkv",
        "matroska",
        "ffv1",
        "bgr0",
        "flac",
        # Range coding takes longer than Golomb codes, and the large context longer still.
        presets=({"coder": "0"}, {"coder": "1"}, {"coder": "1", "context": "1"}),
        options={"level": "3", "slicecrc": "1", "g": "1"},  # what archives ask for
    ),
)


@cache
def offered_formats() -> tuple[VideoFormat, ...]:
    """The formats that the installed FFmpeg can write, the usual one first."""
    return tuple(f for f in FORMATS if _has(f.container, f.encoder, f.sound))


def find_format(name: str) -> VideoFormat:
    """The format of a name.

    Raises:
        InputError: no such format.
        UnavailableError: the installed FFmpeg lacks its encoder.
    """
    names = ", ".join(repr(f.name) for f in offered_formats()) or "none"
    for known in FORMATS:
        if known.name == name and known in offered_formats():
            return known
        if known.name == name:
            raise UnavailableError(
                what=f"The format {name!r} cannot be written here.",
                why=f"This build of FFmpeg lacks {known.encoder} or {known.sound}.",
                fix=f"Choose one that it has: {names}.",
            )
    raise InputError(
        what=f"The format {name!r} is unknown.",
        why="It decides how the video is encoded.",
        fix=f"Choose one of {names}.",
    )


def format_of(path: Path) -> VideoFormat | None:
    """The format of a file's name, the first of those with its suffix; None if there is none."""
    return next((f for f in offered_formats() if f.suffix == path.suffix.lower()), None)


@dataclass(frozen=True)
class Encoding:
    """How a video is encoded.

    `quality` is one of `QUALITIES` and without meaning for a lossless format, `preset` one of
    `PRESETS`. `crf` is the encoder's own constant rate factor instead of `quality`. `odd_size`, one
    of `ODD_SIZES`, is what happens to a side that the format needs even: an error, or it loses its
    last row or column of pixels.

    Raises:
        InputError: a word or factor that does not exist for the format.
    """

    format: VideoFormat
    quality: str = "high"
    preset: str = "medium"
    crf: int | None = None
    odd_size: str = "refuse"

    def __post_init__(self) -> None:
        for name, value, words in (
            ("quality", self.quality, QUALITIES),
            ("preset", self.preset, PRESETS),
            ("odd_size", self.odd_size, ODD_SIZES),
        ):
            if value not in words:
                raise InputError(
                    what=f"{name} is {value!r}.",
                    why="It is one of a few words, which every format understands.",
                    fix=f"Choose one of {', '.join(words)}.",
                )
        if self.crf is None:
            return
        worst = self.format.worst
        if self.format.is_lossless:
            raise InputError(
                what=f"crf is {self.crf}, and {self.format.name!r} loses nothing.",
                why="A rate factor decides how much is lost.",
                fix="Leave crf out (-1), or choose another format.",
            )
        if not 0 <= self.crf <= worst:
            raise InputError(
                what=f"crf is {self.crf}.",
                why=f"{self.format.encoder} knows 0 (best) to {worst} (smallest file).",
                fix=f"Use for example {self.format.qualities[1]}.",
            )

    @property
    def options(self) -> dict[str, str]:
        """The options of the encoder."""
        chosen = {**self.format.options, **self.format.presets[PRESETS.index(self.preset)]}
        if not self.format.is_lossless:
            word = self.format.qualities[QUALITIES.index(self.quality)]
            chosen["crf"] = str(word if self.crf is None else self.crf)
        return chosen


def _has(container: str, *encoders: str) -> bool:
    import av

    try:
        av.ContainerFormat(container, "w")
        for name in encoders:
            av.Codec(name, "w")
    except ValueError:
        return False
    return True
