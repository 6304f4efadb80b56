"""What computes: weights, device, and how they are used. The same for a run and for a server."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import miniatures
from .residency import Offload

if TYPE_CHECKING:
    from .residency import DevicePlacement


@dataclass(frozen=True)
class Engine:
    """How videos are computed, whoever asks for them."""

    models: str
    """"mini", "tiny" or a folder of weights."""
    device: str = "auto"
    """"auto" or a torch device."""
    offload: str | None = None
    """What leaves the device in every run; None: as the parameters of each say."""
    fp8: bool = False
    """Whether the transformer's linear layers multiply in float8 where the device can."""
    ranks: int = 1
    """How many processes compute one video, each on a device of its own."""

    @classmethod
    def of(cls, options: argparse.Namespace) -> Engine:
        """As a command line says, which has the options of `add_engine_options`."""
        return cls(options.models, options.device, options.offload, options.fp8, options.ranks)

    def arguments(self) -> list[str]:
        """For the command line of another process."""
        given = ["--models", self.models, "--device", self.device, "--ranks", str(self.ranks)]
        given += ["--offload", self.offload] if self.offload else []
        return [*given, "--fp8"] if self.fp8 else given

    def offload_of(self, values: Mapping[str, Any]) -> Offload:
        """What leaves the device in a run with these parameters."""
        if self.offload:
            return Offload(self.offload)
        return Offload.AUTO if values.get("offload_model", True) else Offload.OFF

    def open_placement(self, values: Mapping[str, Any]) -> DevicePlacement:
        """The devices for a run with these parameters.

        Raises:
            InputError, UnavailableError: as `wan.terminal.open_device`.
        """
        from .terminal import open_device

        return open_device(self.device, self.offload_of(values), self.ranks)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --models, --device, --offload, --fp8 and --ranks."""
    parser.add_argument(
        "--models",
        default=miniatures.DEFAULT,
        metavar=miniatures.CHOICES,
        help="a folder with weights; mini (default): the trained miniature that comes with the "
        "pack; tiny: random weights, for tests",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, xpu")
    parser.add_argument(
        "--offload",
        choices=[choice.value for choice in Offload],
        help="auto: models stay on the device while there is room, and a transformer that does not "
        "fit visits it block by block; off: everything stays; blocks: always block by block, for "
        "the least memory. Left out: auto, or off where offload_model is false",
    )
    parser.add_argument(
        "--fp8",
        action="store_true",
        help="the transformer's linear layers multiply in float8 where the GPU can: faster, and a "
        "little less exact",
    )
    parser.add_argument(
        "--ranks",
        type=int,
        default=1,
        metavar="N",
        help="let N processes compute one video together, each on a GPU of its own (default 1)",
    )
