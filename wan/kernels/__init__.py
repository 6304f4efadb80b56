"""What a transformer block does between its matrix products, each in one go.

On the CPU, and wherever there is no Triton, these are a few calls of PyTorch that make few passes
over memory; on CUDA with Triton each is one kernel. `python -c "from wan.kernels import report;
print(report('cuda'))"` tells which.

What is accumulated or normalised is computed in float32 and rounded once, to the type that came in.
"""

from .choice import report
from .fused import add_and_normalise, gated_add, gelu, normalise, turn
from .products import Product, as_loaded, fp8_problem, in_fp8

__all__ = [
    "Product",
    "add_and_normalise",
    "as_loaded",
    "fp8_problem",
    "gated_add",
    "gelu",
    "in_fp8",
    "normalise",
    "report",
    "turn",
]
