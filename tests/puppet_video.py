"""A puppet in a video file, as its frames were drawn: the tiny models tell joints by colours."""

from fractions import Fraction

import av
import numpy as np


def write_video(path, frames, rate=30, sound=False):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=rate, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "rgb24"
        track = container.add_stream("aac", rate=44100) if sound else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
        if track:
            tone = np.sin(np.arange(44100 * len(frames) // rate) / 20)[None].astype(np.float32)
            block = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            block.sample_rate, block.time_base, block.pts = 44100, Fraction(1, 44100), 0
            container.mux(track.encode(block))
            container.mux(track.encode())
    return path
