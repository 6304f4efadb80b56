"""What a run finds around it: where other files are, where models compute, what may be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..animate.loop import Places
from ..load.companions import Companions
from ..residency import DevicePlacement, Placement
from ..sample.settings import AS_LOADED


@dataclass(frozen=True)
class Surroundings:
    """Beside the model itself; what an app has no use for it does not look at."""

    lora_folders: Sequence[Path] = ()
    """Where LoRAs are looked up by name."""
    rife_folders: Sequence[Path] = ()
    """Where frame interpolation finds its weights."""
    companions: Companions = field(default_factory=Companions)
    """Models for preprocessing and relighting."""
    placement: Placement = field(default_factory=DevicePlacement)
    """Who owns those of them that are no ONNX models."""
    places: Places = field(default_factory=Places)
    """Where the clips of a long video wait."""
    embeds_metadata: bool = True
    """Whether the file tells its parameters and seed."""
    linears: str = AS_LOADED
    """How the transformer's linear layers multiply, as in `SampleOptions`."""
