"""Models in memory: who owns them, what is on the device, and patches on their weights."""

from .offload import Estimate, Footprint, Offload, gigabytes
from .part import Part
from .placement import DevicePlacement, Owned, Placement, default_dtype
from .turns import Turns
from .weights import PatchedWeights

__all__ = [
    "DevicePlacement",
    "Estimate",
    "Footprint",
    "Offload",
    "Owned",
    "Part",
    "PatchedWeights",
    "Placement",
    "Turns",
    "default_dtype",
    "gigabytes",
]
