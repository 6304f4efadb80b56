"""On which device each rank computes."""

from __future__ import annotations

import torch

from ..errors import InputError, UnavailableError


def rank_devices(device: torch.device, ranks: int) -> tuple[torch.device, ...]:
    """One device for each rank.

    Args:
        device: of rank 0. The others take the GPUs behind it; on the CPU all share it.
        ranks: 1 or more.
    Raises:
        InputError: fewer than one rank, or more than there are GPUs.
        UnavailableError: this PyTorch cannot let processes work together there.
    """
    if ranks < 1:
        raise InputError(
            what=f"The number of ranks is {ranks}.",
            why="Each rank is a process that computes a share of the video.",
            fix="Use 1, or the number of GPUs.",
        )
    if ranks == 1:
        return (device,)
    _expect_distributed(device)
    if device.type == "cpu":
        return (device,) * ranks
    count, first = torch.cuda.device_count(), device.index or 0
    if first + ranks > count:
        behind = f" from cuda:{first} on" if first else ""
        raise InputError(
            what=f"{ranks} ranks were asked for, and there are {max(0, count - first)} GPUs{behind}.",
            why="Each rank needs a GPU of its own.",
            fix=f"Use at most {max(1, count - first)}, or --device cpu to try it without.",
        )
    return tuple(torch.device("cuda", first + rank) for rank in range(ranks))


def _expect_distributed(device: torch.device) -> None:
    distributed = torch.distributed
    problem = None
    if not distributed.is_available():
        problem = "this PyTorch was built without torch.distributed"
    elif device.type not in ("cpu", "cuda"):
        problem = f"ranks work on NVIDIA and AMD GPUs and on the CPU, not on {device.type}"
    elif not distributed.is_gloo_available():
        problem = "this PyTorch was built without gloo"
    elif device.type == "cuda" and not distributed.is_nccl_available():
        problem = "this PyTorch was built without NCCL, which is there on Linux only"
    if problem:
        raise UnavailableError(
            what=f"One video cannot be computed by several processes here: {problem}.",
            why="They exchange what their tokens see of each other.",
            fix="Use 1 rank, or a PyTorch build for Linux from pytorch.org.",
        )
