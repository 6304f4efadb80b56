"""B0, B1, B7: what the device reaches at best, and which kernels reach it."""

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.gpu import LARGE_LATENTS, LATENTS, SMALL_LATENTS, Bench

BACKENDS = {
    "as shipped": None,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
GOAL_FP8_ERROR = 3e-2


def tokens(latents: tuple[int, int, int]) -> int:
    """Of a transformer, for latents of that size."""
    frames, height, width = latents
    return frames * height * width // 4


def products(bench: Bench) -> Iterator[tuple[str, int, int, int]]:
    """The transformer's matrix products: name, rows, inner length, columns."""
    dim = bench.config["num_attention_heads"] * bench.config["attention_head_dim"]
    wide, rows = bench.config["ffn_dim"], tokens(bench.latents)
    yield from (("dim to dim", rows, dim, dim), ("dim to ffn", rows, dim, wide))
    yield "ffn to dim", rows, wide, dim


def ceilings(bench: Bench) -> dict[str, object]:
    """B0: matrix products, copies on the device and to it."""
    side, found = 256 if bench.is_small else 8192, dict[str, object]()
    shapes = [(f"{side}^3", side, side, side), *products(bench)]
    for name, rows, inner, columns in shapes:
        a = torch.randn(rows, inner, device=bench.device, dtype=bench.dtype)
        b = torch.randn(inner, columns, device=bench.device, dtype=bench.dtype)
        seconds = bench.seconds(lambda a=a, b=b: a @ b, 5)
        found[f"{name} TFLOP/s"] = 2 * rows * inner * columns / seconds / 1e12
    bench.peak_flops = float(found[f"{side}^3 TFLOP/s"]) * 1e12
    count = (1 << 20) if bench.is_small else (1 << 30)
    source = torch.empty(count, dtype=torch.uint8)
    if bench.device.type == "cuda":
        source = source.pin_memory()
    target = torch.empty(count, dtype=torch.uint8, device=bench.device)
    seconds = bench.seconds(lambda: target.copy_(source, non_blocking=True), 5)
    found["to device GB/s"] = count / seconds / 1e9
    other = torch.empty_like(target)
    found["copy GB/s, read and written"] = (
        2 * count / bench.seconds(lambda: other.copy_(target), 5) / 1e9
    )
    return found


def attention(bench: Bench) -> dict[str, object]:
    """B1: the kernels of scaled_dot_product_attention by the number of tokens."""
    heads, size = bench.config["num_attention_heads"], bench.config["attention_head_dim"]
    sizes = [(13, 60, 104), LATENTS, LARGE_LATENTS]
    found = dict[str, object]()
    for latents in [SMALL_LATENTS] if bench.is_small else sizes:
        count = tokens(latents)
        query, key, value = (
            torch.randn(1, heads, count, size, device=bench.device, dtype=bench.dtype)
            for _ in range(3)
        )
        exact = functional.scaled_dot_product_attention(
            query[:, :1, :64].float(), key[:, :1].float(), value[:, :1].float()
        )
        for name, backend in BACKENDS.items():
            work = lambda q=query, k=key, v=value: functional.scaled_dot_product_attention(q, k, v)  # noqa: E731
            with sdpa_kernel([backend]) if backend else nullcontext():
                try:
                    seconds = bench.seconds(work, 3)
                except RuntimeError as error:
                    found[f"{count} tokens, {name}"] = str(error).splitlines()[0]
                    continue
                error = (work()[:, :1, :64].float() - exact).abs().max() / exact.abs().max()
            found[f"{count} tokens, {name}: TFLOP/s"] = 4 * count**2 * heads * size / seconds / 1e12
            found[f"{count} tokens, {name}: error"] = float(error)
    return found


def fp8(bench: Bench) -> dict[str, object]:
    """B7: linear layers in fp8 with a scale per row, beside bfloat16."""
    found = dict[str, object]()
    for name, rows, inner, columns in products(bench):
        rows = rows // 16 * 16
        x = torch.randn(rows, inner, device=bench.device, dtype=bench.dtype)
        weight = torch.randn(columns, inner, device=bench.device, dtype=bench.dtype) * 0.02
        plain = bench.seconds(lambda x=x, w=weight: functional.linear(x, w), 5)
        packed, scale = to_fp8(weight)

        def work(x: Tensor = x, packed: Tensor = packed, scale: Tensor = scale) -> Tensor:
            given, rows = to_fp8(x)
            return torch._scaled_mm(
                given, packed.t(), scale_a=rows, scale_b=scale.t(), out_dtype=torch.bfloat16
            )

        exact = functional.linear(x[:64].float(), weight.float())
        try:
            seconds = bench.seconds(work, 5)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            found[name] = str(error).splitlines()[0]
            continue
        distance = (work()[:64].float() - exact).norm() / exact.norm()
        found[f"{name}: of bfloat16"] = seconds / plain
        found[f"{name}: relative error (goal {GOAL_FP8_ERROR})"] = float(distance)
    return found


def to_fp8(values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in float8 and what each is to be multiplied with, [rows, 1] float32."""
    scale = values.abs().amax(-1, keepdim=True).float().clamp_min(1e-12) / 448
    return (values / scale).to(torch.float8_e4m3fn), scale
