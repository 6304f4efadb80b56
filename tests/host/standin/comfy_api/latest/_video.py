"""The VIDEO type: decoded frames or a file, both readable and savable as mp4 (H.264)."""

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
import torch


class VideoCodec(str, Enum):
    AUTO = "auto"
    H264 = "h264"

    @classmethod
    def as_input(cls):
        return [member.value for member in cls]


class VideoContainer(str, Enum):
    AUTO = "auto"
    MP4 = "mp4"

    @classmethod
    def as_input(cls):
        return [member.value for member in cls]

    @classmethod
    def get_extension(cls, value):
        cls(value)  # an unknown container is a ValueError
        return "mp4"


@dataclass
class VideoComponents:
    """images [T,H,W,3] in 0..1; audio {"waveform": [B,C,S], "sample_rate"} or None."""

    images: Any
    frame_rate: Fraction
    audio: Any = None
    metadata: Any = None


class VideoInput(ABC):
    """What a VIDEO socket carries."""

    @abstractmethod
    def get_components(self):
        """Every frame as float32, decoded."""

    @abstractmethod
    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        """Write to a path."""

    def get_stream_source(self):
        """A path or a buffer; from components it fails, as it does on 0.3.64."""
        buffer = BytesIO()
        self.save_to(buffer)
        buffer.seek(0)
        return buffer

    def get_dimensions(self):
        """(width, height)"""
        images = self.get_components().images
        return images.shape[2], images.shape[1]

    def get_duration(self):
        """Seconds."""
        parts = self.get_components()
        return float(parts.images.shape[0] / parts.frame_rate)

    def get_container_format(self):
        with av.open(self.get_stream_source()) as container:
            return container.format.name


def tags(metadata):
    """Metadata as text, since an mp4 tag holds nothing else."""
    found = (metadata or {}).items()
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found}


class VideoFromComponents(VideoInput):
    """A video made of frames."""

    def __init__(self, components):
        self._parts = components

    def get_components(self):
        parts = self._parts
        return VideoComponents(parts.images, parts.frame_rate, parts.audio)

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        if VideoContainer(format) not in (VideoContainer.AUTO, VideoContainer.MP4):
            raise ValueError("the stand-in writes mp4 only, as 0.3.64 does")
        if VideoCodec(codec) not in (VideoCodec.AUTO, VideoCodec.H264):
            raise ValueError("the stand-in writes H.264 only, as 0.3.64 does")
        with av.open(path, "w", options={"movflags": "use_metadata_tags"}) as output:
            output.metadata.update(tags(metadata))
            # Both streams must exist before the first packet: the header is written with it.
            rate = Fraction(round(self._parts.frame_rate * 1000), 1000)
            video = output.add_stream("h264", rate=rate)
            sound = self._parts.audio
            audio = output.add_stream("aac", rate=int(sound["sample_rate"])) if sound else None
            self._write_frames(output, video)
            if audio:
                self._write_audio(output, audio, rate)

    def _write_frames(self, output, stream):
        images = self._parts.images
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in images:
            pixels = (image.float() * 255).clamp(0, 255).to(torch.uint8).cpu().numpy()
            # Converted here and not by the encoder, whose threads make it come out differently
            # from run to run.
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    def _write_audio(self, output, stream, rate):
        waveform, hertz = self._parts.audio["waveform"][0], int(self._parts.audio["sample_rate"])
        length = math.ceil(hertz * self._parts.images.shape[0] / rate)
        samples = waveform[:, :length].float().cpu().numpy()
        layout = "mono" if samples.shape[0] == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
        frame.sample_rate = hertz
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


class VideoFromFile(VideoInput):
    """A video on disk or in a buffer; saving it without a change copies the packets."""

    def __init__(self, file):
        self._file = file

    def _open(self):
        if isinstance(self._file, BytesIO):
            self._file.seek(0)
        return av.open(self._file)

    def get_stream_source(self):
        if isinstance(self._file, BytesIO):
            self._file.seek(0)
        return self._file

    def get_dimensions(self):
        with self._open() as container:
            stream = container.streams.video[0]
            return stream.width, stream.height

    def get_duration(self):
        with self._open() as container:
            if container.duration is not None:
                return container.duration / av.time_base
        return super().get_duration()

    def get_components(self):
        with self._open() as container:
            stream = container.streams.video[0]
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
            rate, metadata = Fraction(stream.average_rate), dict(container.metadata)
        images = torch.from_numpy(np.stack(frames)).float() / 255.0
        return VideoComponents(images, rate, self._audio(), metadata)

    def _audio(self):
        with self._open() as container:
            if not container.streams.audio:
                return None
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
            pieces = []
            for frame in [*container.decode(stream), None]:
                pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
            hertz = stream.rate
        waveform = torch.from_numpy(np.concatenate(pieces, axis=1))[None]
        return {"waveform": waveform, "sample_rate": hertz}

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        with self._open() as source:
            names, encoding = source.format.name.split(","), source.streams.video[0].codec.name
            same = VideoContainer(format).value in ("auto", *names)
            if not (same and VideoCodec(codec).value in ("auto", encoding)):
                parts = self.get_components()
                return VideoFromComponents(parts).save_to(path, format, codec, metadata)
            with av.open(path, "w", options={"movflags": "use_metadata_tags"}) as output:
                output.metadata.update({**source.metadata, **tags(metadata)})
                self._copy_packets(source, output)

    @staticmethod
    def _copy_packets(source, output):
        kept = [*source.streams.video, *source.streams.audio]
        twins = {stream: output.add_stream_from_template(stream) for stream in kept}
        for packet in source.demux(kept):
            if packet.dts is not None:  # the flush packet at the end has none
                packet.stream = twins[packet.stream]
                output.mux(packet)
