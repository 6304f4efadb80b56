"""The apps as functions: validated parameters and a model in, a video file out."""

from .animate import run_animate
from .i2v import run_i2v
from .result import RunResult
from .surroundings import Surroundings

RUNNERS = {"wan2-1-i2v": run_i2v, "wan-2-2-animate-v2v": run_animate}
"""By app name."""

__all__ = ["RUNNERS", "RunResult", "Surroundings", "run_animate", "run_i2v"]
