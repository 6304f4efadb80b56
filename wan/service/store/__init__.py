"""What the service remembers, in one SQLite file that survives being killed at any moment."""

from .grids import GridStore
from .store import Store

__all__ = ["GridStore", "Store"]
