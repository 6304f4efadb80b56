"""A further process of those that compute one video: `python -m wan rank`, started by rank 0.

In come calls, one JSON line each, and with them tensors by the group; out go {"kind": ...} for
hello, ready and failed. The input ends when rank 0 does, and so does this. After an error this
process ends: the others wait for it in the middle of a block, and its end is what they notice.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from .child import Channel
from .errors import Cancelled
from .parallel.follower import Follower, describe_failure
from .payloads import WanModel
from .progress import Silent
from .residency import DevicePlacement, Offload
from .switch import FORWARD

log = logging.getLogger("wan_local")


class Rank:
    """Does what rank 0 calls it to, one call after the other, and keeps the model.

    Args:
        follower: this process's side of the group.
        device: where it computes.
    """

    def __init__(self, follower: Follower, device: torch.device) -> None:
        self._follower = follower
        self._placement = DevicePlacement(device, ranks=follower)
        self._kept: dict[str, WanModel] = {}

    def answer(self, message: Mapping[str, Any]) -> None:
        """Do what a call says; a run that is cancelled ends quietly."""
        from .sample.clip import sample_clip
        from .sample.together import answer
        from .sample.video import sample_video

        tensors = self._follower.receive(message)
        torch.set_num_threads(message["threads"])
        os.environ[FORWARD] = message["forward"]  # all ranks meet in the same places only by one
        self._placement.offload = Offload(message["offload"])
        functions = {"video": sample_video, "clip": sample_clip}
        try:
            answer(message, tensors, self._model(message), functions, Silent())
        except Cancelled:
            log.info("The run was cancelled")

    def _model(self, message: Mapping[str, Any]) -> WanModel:
        from .load.lora.apply import apply_lora
        from .load.model import open_transformer

        wanted = json.dumps([message["stamp"], message["loras"]])
        if wanted not in self._kept:
            model = open_transformer(Path(message["transformer"]), self._placement)
            for (lora, *_), strength in message["loras"]:
                # Rank 0 has read it already, and decided what may be in it.
                model = apply_lora(model, Path(lora), strength, allow_pickle=True)
            # Of two models one would not fit; the same one with other LoRAs shares its weights.
            self._kept = {wanted: model}
        return self._kept[wanted]


def run_rank(rank: int, ranks: int, port: int, device: str) -> int:
    """Answer calls from stdin until it ends.

    Args:
        rank, ranks: which one of how many this is.
        port: of the store that rank 0 has opened.
        device: where it computes.
    """
    channel = Channel()

    def tell(kind: str, **facts: Any) -> None:
        channel.tell({"kind": kind, **facts})

    calls: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin, calls), daemon=True).start()
    try:
        _answer_all(rank, ranks, port, torch.device(device), calls, tell)
    except BaseException as error:
        log.exception("Rank %d failed", rank)
        tell("failed", **describe_failure(error))
        os._exit(1)  # whatever threads still wait for the others
    return 0


def _answer_all(
    rank: int,
    ranks: int,
    port: int,
    device: torch.device,
    calls: queue.SimpleQueue[str],
    tell: Any,
) -> None:
    import diffusers.models.transformers.transformer_wan  # noqa: F401 - while rank 0 is busy too

    from .parallel.group import Group, open_store
    from .sample import clip, video  # noqa: F401

    tell("hello")
    group = Group(rank, ranks, device, open_store(ranks, port))
    own = Rank(Follower(group, tell), device)
    while True:
        own.answer(json.loads(calls.get()))


def _listen(lines: TextIO, calls: queue.SimpleQueue[str]) -> None:
    for line in lines:
        calls.put(line)
    os._exit(0)  # rank 0 is gone; whatever computes here would compute for nobody
