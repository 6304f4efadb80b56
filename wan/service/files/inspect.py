"""What a file holds, by its bytes, without decoding it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..problems import ApiError
from ..sniff import HEAD, UNKNOWN, media_kind, sniff

_BYTES_PER_PIXEL = 4
"""No picture that is worth reading has more bytes than its pixels need without compression."""
_PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_DEMUXERS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "audio/mp4": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
    "video/ogg": "ogg",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    "audio/flac": "flac",
}
"""By name, so that bytes can never choose a reader that opens other files, as playlists do."""


def inspect(path: Path, max_pixels: int) -> tuple[str, dict[str, Any]]:
    """Content type and facts of a file. Reads the disk: call it in a thread.

    Args:
        path: a complete file.
        max_pixels: of a picture or a video's frame, above which it is refused: small files can
            unpack to any size.
    Returns:
        The type as `sniff` knows it, `UNKNOWN` also for media whose structure is damaged; and of
        type, width, height, duration (seconds), fps, sample_rate, channels, codec what is known.
    Raises:
        ApiError: limit_exceeded; too many pixels.
    """
    with path.open("rb") as file:
        content_type = sniff(file.read(HEAD))
    kind = media_kind(content_type)
    if kind is None:
        return content_type, {}
    if kind == "image":
        facts = _picture_facts(path, max_pixels)
    else:
        facts = _stream_facts(path, content_type)
    if facts is None:
        return UNKNOWN, {}
    width, height = facts.get("width", 0), facts.get("height", 0)
    if width * height > max_pixels:
        raise _too_large(f"{width}x{height} pixels", max_pixels)
    return content_type, {"type": kind, **facts}


def _picture_facts(path: Path, max_pixels: int) -> dict[str, Any] | None:
    from PIL import Image, UnidentifiedImageError

    size = path.stat().st_size
    if size > max_pixels * _BYTES_PER_PIXEL:
        raise _too_large(f"{size} bytes", max_pixels)
    try:
        with Image.open(path, formats=_PICTURES) as picture:
            return {"width": picture.width, "height": picture.height}
    except Image.DecompressionBombError as error:
        raise _too_large(f"too many pixels ({error})", max_pixels) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError):
        return None


def _stream_facts(path: Path, content_type: str) -> dict[str, Any] | None:
    import av

    try:
        with av.open(
            str(path), format=_DEMUXERS[content_type], metadata_errors="replace"
        ) as container:
            facts: dict[str, Any] = {}
            if container.duration is not None:
                facts["duration"] = round(container.duration / 1e6, 3)
            for stream in container.streams.audio[:1]:
                facts |= {"sample_rate": stream.rate, "channels": stream.channels}
                facts["codec"] = stream.codec_context.name
            for stream in container.streams.video[:1]:
                facts |= {"width": stream.width, "height": stream.height}
                facts["codec"] = stream.codec_context.name
                if stream.average_rate:
                    facts["fps"] = round(float(stream.average_rate), 3)
            return facts if len(container.streams) else None
    except (av.FFmpegError, ValueError, OverflowError):
        return None


def _too_large(what: str, max_pixels: int) -> ApiError:
    return ApiError(
        "limit_exceeded",
        f"The picture has {what}. At most {max_pixels} pixels are taken, because a small file can "
        "unpack to more memory than there is. Make it smaller.",
    )
