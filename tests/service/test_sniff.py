import io
import json
import struct

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from wan_local.wan.service.sniff import UNKNOWN, media_kind, sniff, suffix_of

PICTURES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
VIDEOS = {
    ".mp4": ("mp4", "libx264", "video/mp4"),
    ".mov": ("mov", "libx264", "video/quicktime"),
    ".mkv": ("matroska", "libx264", "video/x-matroska"),
    ".webm": ("webm", "libvpx-vp9", "video/webm"),
    ".avi": ("avi", "mpeg4", "video/x-msvideo"),
}
SOUNDS = {
    "wav": ("pcm_s16le", "audio/wav"),
    "flac": ("flac", "audio/flac"),
    "mp3": ("libmp3lame", "audio/mpeg"),
    "ogg": ("libopus", "audio/ogg"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6)).save(buffer, name)
    assert sniff(buffer.getvalue()) == PICTURES[name]


@pytest.mark.parametrize("suffix", VIDEOS)
def test_videos(suffix):
    container, codec, wanted = VIDEOS[suffix]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert sniff(buffer.getvalue()[:4096]) == wanted
    assert suffix_of(wanted) == suffix


@pytest.mark.parametrize("container", SOUNDS)
def test_sounds(container):
    codec, wanted = SOUNDS[container]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48000)
        stream.layout = "mono"
        kind = "fltp" if container in ("mp3",) else "s16"
        samples = np.zeros((1, 4800), np.float32 if kind == "fltp" else np.int16)
        frame = av.AudioFrame.from_ndarray(samples, kind, "mono")
        frame.rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    data = buffer.getvalue()
    assert sniff(data[:4096]) == wanted
    if container == "mp3":  # without the tag in front, the first frame has to tell
        length = 10 + sum(
            byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True)
        )
        assert sniff(data[length : length + 4096]) == wanted


def test_weights():
    header = json.dumps({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}).encode()
    assert sniff(struct.pack("<Q", len(header)) + header) == "application/x-safetensors"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!DOCTYPE html><html></html>",
        b"<?xml version='1.0'?>",
        b"#EXTM3U\nfile:///etc/passwd",
        b"ffconcat version 1.0\nfile /etc/passwd",
        b"BM is how this text begins, and it is no picture",
        b"RIFF1234ACON",
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"\0\0\0\x18ftypheic\0\0\0\0",
    ],
)
def test_everything_else_is_unknown(data):
    assert sniff(data) == UNKNOWN
    assert media_kind(sniff(data)) is None


@given(st.binary(max_size=64))
def test_any_bytes_have_a_type_with_a_suffix(data):
    assert suffix_of(sniff(data)).startswith(".")


def test_kinds_are_those_of_known_types_only():
    assert media_kind("image/png") == "image"
    assert media_kind("video/x-matroska") == "video"
    assert media_kind("image/svg+xml") is None
    assert media_kind("application/x-safetensors") is None
