"""When a device runs out of memory: free what can be freed, try again with less, or say what helps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from .errors import OutOfVramError
from .progress import Reporter
from .residency import Part, gigabytes
from .tiling import TILE_SIZES

T = TypeVar("T")
log = logging.getLogger("wan_local")

_CURES = 3
# PyTorch's words on devices that have no exception of their own for it: MPS, the CPU.
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Cure:
    """A change of the user's that would help."""

    saves: int
    """Bytes."""
    text: str
    """What to do, as the end of a sentence."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that some memory is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def within_memory(
    work: Callable[[], T],
    part: Part[Any],
    needs: Callable[[], int],
    reporter: Reporter,
    less: Iterator[str] | None = None,
    cures: Iterable[Cure] = (),
) -> T:
    """Do something; where memory runs out, free what is not in use and try again with less.

    Args:
        work: may be done several times; keeps nothing of a try that failed.
        part: the model that works.
        needs: bytes that the work takes beside the weights; asked if there is a shortage.
        less: makes `work` need less each time it is advanced, and says how in a few words.
        cures: what the user could change.
    Raises:
        OutOfVramError: it does not fit with the least of memory either.
    """
    ways, is_first = less or iter(()), True
    while True:
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            told = (str(error).splitlines() or [type(error).__name__])[0]
        # Out here the exception is gone, and with it the tensors that the failed try held.
        part.placement.free()
        how = next(ways, "after freeing what was not in use" if is_first else None)
        if how is None:
            raise _shortage(told, part.describe_memory(needs()), tuple(cures))
        is_first = False
        reporter.note(f"{part.name}: out of memory ({told}); once more, {how}")


def streamed(part: Part[Any]) -> Iterator[str]:
    """For `within_memory`: the model's blocks visit the device one after the other."""
    if part.shrink():
        yield "streaming the blocks from RAM"


def in_tiles(
    work: Callable[[int], T],
    needs: Callable[[int], int],
    vae: Part[Any],
    size: tuple[int, int],
    tile_size: int,
    reporter: Reporter,
) -> T:
    """Let the VAE do something, in smaller tiles where memory runs out or plainly will.

    Args:
        work: takes the size of the tiles, pixels; 0 = whole pictures.
        needs: bytes that it takes at least with tiles of this size.
        vae: the model that works.
        size: width and height of the pictures, pixels.
        tile_size: as the user wants them.
    Raises:
        OutOfVramError: the smallest tiles do not fit either.
    """
    whole = max(size)
    sizes = [t for t in sorted(TILE_SIZES, reverse=True) if 0 < t < min(tile_size or whole, whole)]
    tries, todo = [tile_size], iter(sizes)
    while len(tries) <= len(sizes) and not vae.estimate(needs(tries[-1])).fits_whole:
        tries.append(next(todo))
    if len(tries) > 1:
        told = vae.describe_memory(needs(tile_size))
        reporter.note(f"{told}: does not fit, so in tiles of {tries[-1]} pixels")

    def smaller() -> Iterator[str]:
        for tile in todo:
            tries.append(tile)
            yield f"in tiles of {tile} pixels"

    def cures() -> Iterator[Cure]:
        yield Cure(needs(0) // 2, "make a video of half the area")

    return within_memory(
        lambda: work(tries[-1]), vae, lambda: needs(tries[-1]), reporter, smaller(), cures()
    )


def fewer_weights(part: Part[Any]) -> Iterator[Cure]:
    """Smaller files of the same model, unless it is streamed or quantised already."""
    weights = part.footprint.weights
    if not part.is_streamed and not part.is_quantised:
        yield Cure(weights // 2, f"use fp8 or GGUF weights of the {part.name}")


def _shortage(told: str, needed: str, cures: Sequence[Cure]) -> OutOfVramError:
    """The error with numbers and the cures that save most."""
    best = sorted((cure for cure in cures if cure.saves > 0), key=lambda cure: -cure.saves)
    lines = [f"{cure.text} (about {gigabytes(cure.saves)} less)" for cure in best[:_CURES]]
    fix = "; or ".join(lines) if lines else "close other programs that use this device"
    return OutOfVramError(
        what=f"Memory ran out: {told.rstrip('.')}.",
        why=f"Estimated need: {needed}.",
        fix=f"{fix[0].upper()}{fix[1:]}.",
    )
