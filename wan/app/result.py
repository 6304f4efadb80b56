"""What a finished run tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunResult:
    """A written video and its facts."""

    path: Path
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_frames: int
    fps: float
    """Frames per second of the file."""
    seed: int
    """The seed that was used, drawn or given."""
    notice: str
    """To be shown with it: see `WanModel.notice`."""

    @property
    def seconds(self) -> float:
        """Duration of the video."""
        return self.num_frames / self.fps
