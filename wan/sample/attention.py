"""Which attention kernel runs: asked for, tried once, reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InputError
from ..progress import Reporter

KERNELS = ("sage", "sdpa")
# The names diffusers' dispatch knows them by.
_BACKENDS = {"sage": "sage", "sdpa": "native"}
# SageAttention computes in 8 bits; its paper reports relative errors of a few percent.
_CLOSE = 0.1

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@contextmanager
def attention_kernel(
    kernel: str, device: torch.device, dtype: torch.dtype, head_dim: int, reporter: Reporter
) -> Iterator[str]:
    """Run all attention inside the block with one kernel.

    Args:
        kernel: "sage" or "sdpa". sage that cannot be used here is replaced by sdpa, and said so.
        device, dtype, head_dim: what it will be used with.
        reporter: told once if sage was replaced.
    Yields:
        The kernel that runs.
    Raises:
        InputError: another kernel.
    """
    from diffusers.models.attention_dispatch import attention_backend

    if kernel not in KERNELS:
        raise InputError(
            what=f"attention is {kernel!r}.",
            why="It names the kernel that computes attention.",
            fix=f"Use one of: {', '.join(KERNELS)}.",
        )
    if kernel == "sage":
        problem = sage_problem(device, dtype, head_dim)
        if problem:
            reporter.note(f"attention: sage cannot be used ({problem}), sdpa runs instead")
            kernel = "sdpa"
    with attention_backend(_BACKENDS[kernel]):
        yield kernel


@lru_cache
def sage_problem(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Why SageAttention cannot be used, or None. Tried by a real call, once per process."""
    if device.type != "cuda":
        return f"it needs a CUDA GPU, and the models run on {device.type}"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it needs float16 or bfloat16, and the weights are {str(dtype)[6:]}"
    try:
        return kernel_problem(_dispatch("sage"), _dispatch("native"), device, dtype, head_dim)
    except Exception as error:  # whatever a kernel that was built for another GPU raises
        return str(error).splitlines()[0] if str(error) else type(error).__name__


def kernel_problem(
    kernel: Attend,
    reference: Attend,
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
) -> str | None:
    """Compare a kernel with a reference on random values.

    Args:
        kernel, reference: take query, key and value, each [1, 256, 2, head_dim].
    Returns:
        What is wrong, or None where the results agree within what 8 bits allow.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    query, key, value = (
        torch.randn(1, 256, 2, head_dim, generator=generator).to(device, dtype) for _ in range(3)
    )
    found = kernel(query, key, value).float()
    expected = reference(query, key, value).float()
    distance = float((found - expected).norm() / expected.norm())
    if distance < _CLOSE:  # false for not-a-number too
        return None
    return f"its result is {distance:.0%} away from sdpa's"


def _dispatch(backend: str) -> Attend:
    from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with attention_backend(backend):
            return dispatch_attention_fn(query, key, value)

    return attend
