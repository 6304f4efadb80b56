"""Grids: several values for some parameters as one request, a task for each combination."""

from .manager import Grids
from .request import GridRequest

__all__ = ["GridRequest", "Grids"]
