"""Which FLUX.1-Kontext folders are offered, and how pictures are edited with a choice."""

from ..wan.errors import MissingFileError
from ..wan.media.frames import to_pixels
from ..wan.preprocess.retarget.edit import ALTERNATIVE, DOWNLOAD
from ..wan.preprocess.retarget.fit import Editing
from ..wan.preprocess.retarget.kontext import Kontext
from . import host, host_memory

NONE = "none found: put FLUX.1-Kontext-dev into models/diffusers and press R"
_MARK = "kontext"


def flux_choices():
    """The options of the drop-down."""
    return [name for name in host.model_folders() if _MARK in name.lower()] or [NONE]


def choose_editing(use_flux, flux_model, driving, reference):
    """How the figures are edited, or None if they are compared as they are.

    Args:
        driving, reference: edited images from elsewhere, which need no FLUX; or None.
    Raises:
        MissingFileError: FLUX is asked for and not there.
    """
    if driving is not None or reference is not None:
        given = (None if image is None else to_pixels(image[0]) for image in (driving, reference))
        return Editing(*given)
    if not use_flux:
        return None
    folder = host.model_folders().get(flux_model)
    if folder is None:
        raise MissingFileError(
            what="use_flux is on, and no FLUX.1-Kontext was found."
            if flux_model == NONE
            else f"{flux_model} is not in models/diffusers.",
            why="It brings both figures into one neutral pose before their bones are compared.",
            fix=f"{DOWNLOAD} into models/diffusers, {ALTERNATIVE}.",
        )
    return Editing(pipeline=Kontext(folder, host_memory.placement()))
