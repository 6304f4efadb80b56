"""The smallest pictures and videos that are real ones."""

import io

import av
import numpy as np
from PIL import Image


def small_video():
    """Bytes of an mp4 of 64x48, 8 frames."""
    target = io.BytesIO()
    with av.open(target, "w", "mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(8):
            frame = np.full((48, 64, 3), 30 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return target.getvalue()


def small_picture(colour=(200, 30, 30)):
    """Bytes of a png of 64x48."""
    target = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(target, "PNG")
    return target.getvalue()
