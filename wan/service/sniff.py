"""What kind of file some bytes are; names and headers that claim a kind are never trusted."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"
"""Everything that is neither picture, video, sound nor weights: text, HTML and SVG as well."""
HEAD = 4096
"""Bytes that `sniff` wants to see; it looks at fewer if there are no more."""

_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "image/tiff": ".tif",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
    "video/quicktime": ".mov",
    "video/x-msvideo": ".avi",
    "video/ogg": ".ogv",
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "audio/mp4": ".m4a",
    "application/x-safetensors": ".safetensors",
    UNKNOWN: ".bin",
}
_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)
_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav"}
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
"""Lengths of the second header; "BM" alone begins many a text."""
_STILLS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
"""Brands of picture files in MP4's container, which the apps do not read."""
_LARGEST_HEADER = 100_000_000
"""Bytes of a safetensors header; the format allows no more."""


def sniff(head: bytes) -> str:
    """Content type of a file.

    Args:
        head: its first bytes, `HEAD` of them if it has as many.
    Returns:
        A picture, video or sound type that the apps read, "application/x-safetensors", or
        `UNKNOWN`.
    """
    for start, content_type in _STARTS:
        if head.startswith(start):
            return content_type
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], UNKNOWN)
    if head[:4] == b"OggS":
        return "video/ogg" if b"\x80theora" in head else "audio/ogg"
    if head[:4] == b"\x1aE\xdf\xa3":
        return _matroska(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    return _boxes(head) or _mp3(head) or _safetensors(head) or UNKNOWN


def suffix_of(content_type: str) -> str:
    """How names of such files end, with the dot; ".bin" for types that `sniff` does not know."""
    return _SUFFIXES.get(content_type, _SUFFIXES[UNKNOWN])


def media_kind(content_type: str) -> str | None:
    """ "image", "video" or "audio"; None for everything else, and for types `sniff` never gives."""
    kind = content_type.partition("/")[0]
    return kind if content_type in _SUFFIXES and kind != "application" else None


def _matroska(head: bytes) -> str:
    if b"webm" in head[:64]:
        return "video/webm"
    return "video/x-matroska" if b"matroska" in head[:64] else UNKNOWN


def _boxes(head: bytes) -> str | None:
    """MP4 and QuickTime: a length, then a name of four letters."""
    name, brand = head[4:8], head[8:12]
    if name == b"ftyp":
        if brand in _STILLS:
            return None
        if brand in (b"M4A ", b"M4B "):
            return "audio/mp4"
        return "video/quicktime" if brand == b"qt  " else "video/mp4"
    return "video/quicktime" if name in (b"moov", b"mdat", b"wide") else None


def _mp3(head: bytes) -> str | None:
    """A frame of MPEG layer III: twelve set bits, then fields that exclude some values."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return "audio/mpeg" if bitrate not in (0, 15) and rate != 3 else None


def _safetensors(head: bytes) -> str | None:
    length = int.from_bytes(head[:8], "little")
    is_one = head[8:10] == b'{"' and 2 < length <= _LARGEST_HEADER
    return "application/x-safetensors" if is_one else None
