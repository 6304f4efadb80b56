"""The apps as functions: validated parameters and a model in, a video file out."""

from .i2v import run_i2v
from .result import RunResult

RUNNERS = {"wan2-1-i2v": run_i2v}
"""By app name; an app whose work is still to come has none."""

__all__ = ["RUNNERS", "RunResult", "run_i2v"]
