"""Frames to a video file."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor, uint8

from ..errors import GeometryError, OutputError

# The constant rate factor is one at which x264 is visually lossless for most pictures. Without
# "mbtree", because with it x264 does not always write the same file from the same frames.
_H264 = {"crf": "17", "x264-params": "mbtree=0"}
# Codes of ISO/IEC 23091-2 and of FFmpeg's AVColorRange.
_BT709 = 1
_LIMITED_RANGE = 1


def to_uint8(frames: Tensor) -> Tensor:
    """Frames in 0..1 to 0..255, rounded, never truncated.

    Args:
        frames: any shape, floating point; values beyond 0..1 are clamped.
    """
    return frames.clamp(0, 1).mul_(255).round_().to(uint8)


def check_writable(path: Path) -> None:
    """Find out before the work whether its result can be written.

    Raises:
        OutputError: the folder is missing or read-only, or `path` is a folder or not an .mp4.
    """
    folder = path.parent
    reason = None
    if path.is_dir():
        reason = "it is a folder"
    elif path.suffix.lower() != ".mp4":
        reason = "its name does not end in .mp4"
    elif not folder.is_dir():
        reason = f"the folder {str(folder)!r} does not exist"
    else:
        try:
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = f"nothing can be written to {str(folder)!r} ({error.strerror})"
    if reason is not None:
        raise OutputError(
            what=f"The video cannot be written to {str(path)!r}: {reason}.",
            why="It would be lost after the whole run.",
            fix="Choose a file that ends in .mp4, in a folder that exists and that you may write to.",
        )


def write_video(path: Path, batches: Iterable[Tensor], fps: Fraction | int) -> int:
    """Write an H.264 MP4. The file appears under its name only when it is complete.

    Args:
        path: ends in .mp4.
        batches: consecutive frames, each [t, H, W, 3] uint8; H and W even.
        fps: frames per second, above 0.
    Returns:
        The number of frames written.
    Raises:
        GeometryError: an odd side.
        OutputError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}.mp4")
    try:
        count = _encode(str(temporary), batches, Fraction(fps))
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            what=f"Writing {str(path)!r} failed ({error.strerror or error}).",
            why="The disk may be full or the folder read-only.",
            fix="Free some space or choose another folder, then run again.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _encode(path: str, batches: Iterable[Tensor], fps: Fraction) -> int:
    import av
    from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

    count = 0
    reformatter = VideoReformatter()
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=_H264)
        _tag_colours(stream)
        for batch in batches:
            for frame in batch:
                if count == 0:
                    stream.height, stream.width = _even(frame)
                picture = reformatter.reformat(
                    av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24"),
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
                picture.pts, picture.time_base = count, 1 / fps
                container.mux(stream.encode(picture))
                count += 1
        if count:
            container.mux(stream.encode(None))
    return count


def _tag_colours(stream: Any) -> None:
    # Untagged, players guess: BT.601 for small pictures, and the colours shift.
    context = stream.codec_context
    context.pix_fmt = "yuv420p"
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE


def _even(frame: Tensor) -> tuple[int, int]:
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        raise GeometryError(
            what=f"The frames are {width}x{height}.",
            why="H.264 stores colour at half the size, so both sides must be even.",
            fix=f"Resize or crop to {width // 2 * 2}x{height // 2 * 2}.",
        )
    return height, width
