"""Which relighting LoRAs are offered, and what a choice among them means."""

from ..wan.errors import MissingFileError
from ..wan.payloads import Relighting
from . import host

AUTO, OFF = "auto", "off"
_MARK = "relight"


def relighting_choices():
    """The options of the drop-down."""
    return [AUTO, OFF, *_files()]


def find_relighting(choice, strength=1.0):
    """What a choice stands for; None where nothing is to be applied.

    Raises:
        MissingFileError: the file is not there.
    """
    if choice == OFF or strength == 0:
        return None
    name = next(iter(_files()), None) if choice == AUTO else choice
    if name is None:
        return None
    path = host.model_path("loras", name)
    if path is None:
        raise MissingFileError(
            what=f"{name} is not in models/loras.",
            why="It fits the character to the light of the scene.",
            fix="Put the file there and press R, choose another one, or choose off.",
        )
    return Relighting(path, strength)


def _files():
    return [name for name in host.model_files("loras") if _MARK in name.lower()]
