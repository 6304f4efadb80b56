"""Which attention kernel runs: asked for, tried once, reported."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..progress import Reporter

KERNELS = ("sage", "sdpa")
# The names diffusers' dispatch knows them by.
_BACKENDS = {"sage": "sage", "sdpa": "native"}
# SageAttention computes in 8 bits; its paper reports relative errors of a few percent.
_CLOSE = 0.1

Attend = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]
"""Takes query, key and value, each [1, tokens, heads, head_dim], and what is added to the scores,
[1, 1, 1, key tokens] or None; gives [1, tokens, heads, head_dim]."""


@dataclass(frozen=True)
class Kernel:
    """What computes attention."""

    name: str
    """As a user reads it."""
    attend: Attend


@contextmanager
def attention_kernel(
    kernel: str, device: torch.device, dtype: torch.dtype, head_dim: int, reporter: Reporter
) -> Iterator[Kernel]:
    """Run all attention inside the block with one kernel, that of the stock modules too.

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
    with attention_backend(_BACKENDS[kernel]), _best_first(device):
        if kernel == "sage":
            yield Kernel(kernel, _sage)
        else:
            yield Kernel(_named(device, dtype, head_dim), scaled_dot_product)


def scaled_dot_product(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """PyTorch's own attention; see `Attend`."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2)


def _sage(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """By the way that `sage_problem` has tried."""
    if bias is not None:
        return scaled_dot_product(query, key, value, bias)
    return _dispatch("sage")(query, key, value)


def _best_first(device: torch.device) -> AbstractContextManager[None]:
    """Let PyTorch try its kernels from the fastest on; by itself it takes cuDNN's on few cards."""
    if device.type != "cuda":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if "set_priority" not in inspect.signature(sdpa_kernel).parameters:
        return nullcontext()
    names = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH")
    return sdpa_kernel([getattr(SDPBackend, name) for name in names], set_priority=True)


def _named(device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    """ "sdpa", on CUDA with the kernel that PyTorch will take for it."""
    if device.type != "cuda":
        return "sdpa"
    from torch.backends import cuda

    sample = torch.empty(1, 1, 256, head_dim, device=device, dtype=dtype)
    given = cuda.SDPAParams(sample, sample, sample, None, 0.0, False, False)
    for name in ("cudnn", "flash", "efficient"):
        if getattr(cuda, f"can_use_{name}_attention")(given):
            return f"sdpa ({name})"
    return "sdpa (math)"


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
    kernel: Callable[[Tensor, Tensor, Tensor], Tensor],
    reference: Callable[[Tensor, Tensor, Tensor], Tensor],
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


def _dispatch(backend: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    from diffusers.models.attention_dispatch import attention_backend, dispatch_attention_fn

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with attention_backend(backend):
            return dispatch_attention_fn(query, key, value)

    return attend
