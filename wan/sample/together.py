"""A clip sampled by several processes: rank 0 hands the others what it begins from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from ..parallel.seat import Call, Seat
from ..parallel.wire import pack, unpack
from ..payloads import ClipCondition, ImageCondition, TextEmbeds, Variant, WanModel
from ..progress import Reporter
from ..switch import FORWARD
from .cache import MagCache, TeaCache
from .guidance import Guidance
from .rope import Riflex
from .settings import SampleOptions, SampleSettings

RECORDS = (
    TextEmbeds, ImageCondition, ClipCondition, Variant,
    SampleSettings, SampleOptions, Guidance, Riflex, TeaCache, MagCache,
)  # fmt: skip
"""What the arguments of a sampling function are made of."""


@contextmanager
def together(
    kind: str, model: WanModel, arguments: Sequence[Any], reporter: Reporter
) -> Iterator[Seat]:
    """Do on all ranks of the model's placement what is inside the block.

    Args:
        kind: "video" or "clip": which function the others call.
        model: its transformer computes.
        arguments: of that function, after the model and before the reporter.
        reporter: of rank 0.
    Yields:
        This process's place, with the reporter to use inside.
    """
    placement = model.transformer.placement
    if placement.ranks is None:
        yield Seat(None, reporter, lambda: None)
        return
    call = _call(kind, model, arguments) if placement.ranks.leads else Call(kind, {}, ())
    with placement.ranks.together(call, reporter) as seat:
        yield seat


def _call(kind: str, model: WanModel, arguments: Sequence[Any]) -> Call:
    tensors: list[Tensor] = []
    part = model.transformer
    facts = {
        "transformer": model.identity[0][0],
        # With times and sizes, by which another rank sees that a file was replaced by another.
        "stamp": list(model.identity[0]),
        "loras": [[list(patch.identity), patch.strength] for patch in part.patches],
        "forward": os.environ.get(FORWARD, ""),
        "offload": part.placement.offload.value,
        "arguments": [pack(argument, tensors) for argument in arguments],
    }
    return Call(kind, facts, tensors)


def answer(
    message: Mapping[str, Any],
    tensors: Sequence[Tensor],
    model: WanModel,
    functions: Mapping[str, Callable[..., Any]],
    reporter: Reporter,
) -> None:
    """On another rank: do what a call says.

    Args:
        message: a call as it arrived.
        tensors: those that came with it.
        model: the one that it names.
        functions: by kind.
        reporter: for what happens before all ranks go on together.
    """
    arguments = [unpack(packed, tensors, RECORDS) for packed in message["arguments"]]
    functions[message["kind"]](model, *arguments, reporter)
