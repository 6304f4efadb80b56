"""What jobs move through storage and network."""

from __future__ import annotations

from dataclasses import dataclass

from ..payloads import Variant
from .figures import Figure, counted, modelled
from .job import JobPlan

_PICTURE = 2_000_000
_VIDEO_BITS, _RESULT_BITS = 0.15, 0.15
"""Bits per pixel and frame of H.264: of usual uploads, and of our results with moving pictures."""


@dataclass(frozen=True)
class Traffic:
    """Bytes of one job."""

    inputs: Figure
    """From the client to storage, and on to the worker."""
    result: Figure
    """From the worker to storage, and on to the client."""
    clips: Figure
    """Finished clips of a long animation, kept in storage until the video is written."""

    @property
    def through_storage(self) -> float:
        """Bytes written to storage and read from it."""
        return 2 * (self.inputs.value + self.result.value + self.clips.value)


def job_traffic(plan: JobPlan) -> Traffic:
    """By the sizes of what is kept and sent."""
    pixels = plan.width * plan.height
    inputs = _PICTURE + plan.driving_frames * pixels * _VIDEO_BITS / 8
    result = plan.saved_frames * pixels * plan.size_factor**2 * _RESULT_BITS / 8
    kept = plan.frames * pixels * 3 if plan.variant is Variant.ANIMATE else 0
    return Traffic(
        inputs=modelled(inputs, "B", f"a picture of 2 MB, video at {_VIDEO_BITS} bit a pixel"),
        result=modelled(result, "B", f"H.264 at {_RESULT_BITS} bit a pixel"),
        clips=counted(kept, "B", "3 bytes a pixel of each finished frame"),
    )
