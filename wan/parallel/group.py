"""The processes that compute one video, as one of them sees them. Loaded when there are several."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

TIMEOUT = timedelta(minutes=30)
"""For what all ranks do together. The first waits until the last has read its weights, perhaps from
a slow disk; a rank that died is noticed long before."""
_BACKENDS = ("gloo", "nccl", "process group")
"""Words that are in whatever PyTorch says of them."""
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


class LostContact(Exception):  # noqa: N818 - says what was seen; who caused it is found out later
    """Something that all ranks do together could not be done."""


def is_lost_contact(error: BaseException) -> bool:
    """Whether an error means that another rank is gone, also where diffusers called for it."""
    if isinstance(error, LostContact):
        return True
    is_named = any(name in str(error).lower() for name in _BACKENDS)
    return isinstance(error, RuntimeError) and is_named


def open_store(ranks: int, port: int = 0) -> dist.TCPStore:
    """Where the ranks find each other, on this machine alone.

    Args:
        ranks: how many there will be.
        port: of the store that rank 0 has opened; 0 opens one, at a port that is free.
    """
    return dist.TCPStore(
        "127.0.0.1", port, ranks, is_master=port == 0, timeout=TIMEOUT, wait_for_workers=False
    )


class Group:
    """One rank's access to the others; ends with `leave`.

    What is computed with goes by NCCL on GPUs and by gloo on the CPU; flags and what a clip is
    sampled from go by gloo always, which waits for no GPU.

    Args:
        rank: which one this is, from 0.
        size: how many there are.
        device: where this one computes.
        store: from `open_store`.
    """

    def __init__(self, rank: int, size: int, device: torch.device, store: dist.TCPStore) -> None:
        self.rank, self.size, self.device = rank, size, device
        self.sent: Counter[str] = Counter()
        """Bytes that left this rank, by what they were sent for."""
        # gloo asks the name of the machine for an address, which need not be there, or reachable.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", _LOOPBACK)
        # A watchdog of NCCL would end rank 0 too when another rank dies; `abort` does without it.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        self.use_device()
        with _contact():
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT
            )

    def use_device(self) -> None:
        """Make the device the current one of this thread."""
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)

    def exchange(self, rows: Tensor, gives: Sequence[int], takes: Sequence[int]) -> Tensor:
        """Give each rank some rows and take some from each.

        Args:
            rows: [sum of gives, ...], for rank 0 first.
            gives: how many rows each rank gets.
            takes: how many come from each.
        Returns:
            [sum of takes, ...], from rank 0 first.
        """
        sent = _bytes(rows)
        made = rows.new_empty(sum(takes), *rows.shape[1:])
        self.sent["exchange"] += (len(sent) - gives[self.rank]) * sent.shape[1]
        with _contact():
            dist.all_to_all_single(_bytes(made), sent, list(takes), list(gives))
        return made

    def gather(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """[sum of sizes, ...] from the rows [own size, ...] of each rank, on all of them."""
        longest = max(sizes)
        own = rows.new_zeros(longest, *rows.shape[1:])  # gloo takes equal parts only
        own[: len(rows)] = rows
        parts = [torch.empty_like(own) for _ in sizes]
        self.sent["gather"] += own.nbytes * (self.size - 1)
        with _contact():
            dist.all_gather([_bytes(part) for part in parts], _bytes(own))
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @contextmanager
    def passing(self, given: Tensor, taken: Tensor) -> Iterator[None]:
        """Send a tensor to the next rank and take another from the one before, while the block runs.

        Args:
            given: contiguous; not changed before the end.
            taken: contiguous; whole at the end.
        """
        behind, ahead = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        self.sent["ring"] += given.nbytes
        pair = [
            dist.P2POp(dist.isend, _bytes(given), behind),
            dist.P2POp(dist.irecv, _bytes(taken), ahead),
        ]
        with _contact():
            works = dist.batch_isend_irecv(pair)
        yield
        with _contact():
            for work in works:
                work.wait()

    def spread(self, tensor: Tensor) -> None:
        """Make a CPU tensor what it is on rank 0, on all ranks; contiguous."""
        if tensor.numel():
            with _contact():
                dist.broadcast(tensor.view(-1).view(torch.uint8), 0)

    def tell(self, flag: int) -> None:
        """Of rank 0: send a number in 0..255 to the others."""
        self.spread(torch.tensor([flag], dtype=torch.uint8))

    def hear(self) -> int:
        """Of the others: the number that rank 0 tells."""
        flag = torch.zeros(1, dtype=torch.uint8)
        self.spread(flag)
        return int(flag)

    def agree(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        """What rank 0 says, of as many flags on all ranks."""
        told = torch.tensor(list(flags))
        self.spread(told)
        return tuple(told.tolist())

    def abort(self) -> None:
        """End what waits for others in other threads, with an error there."""
        with suppress(Exception):  # older versions know it of NCCL alone
            dist.distributed_c10d._abort_process_group()

    def leave(self) -> None:
        """Part from the others, in whatever state they are."""
        with suppress(Exception):
            dist.destroy_process_group()


def _bytes(tensor: Tensor) -> Tensor:
    """[rows, bytes] of a contiguous tensor [rows, ...]: gloo does not know every type."""
    return tensor.contiguous().view(len(tensor), -1).view(torch.uint8)


@contextmanager
def _contact() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:  # of a backend; of a group that was aborted
        raise LostContact((str(error).splitlines() or [type(error).__name__])[0]) from error
