"""The stock blocks on several ranks: diffusers' own context parallelism inside their attention.

diffusers' `enable_parallelism` would also split and gather tokens, by a plan that fits the module's
own forward and that Animate's has none of: its face adapters look at whole latent frames. Here the
walk through the blocks is ours and does that for both, see `forward`, so nothing but the attention
is left to it. (It also asks for an accelerator, which tests on a CPU have none of.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from ..errors import UnavailableError
from ..parallel import Split
from ..parallel.attention import attend_with_sums, uses_heads

_configs: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""By group: making one opens connections."""


@contextmanager
def attention_across(transformer: nn.Module, split: Split | None) -> Iterator[None]:
    """Let the self-attention of all blocks see the tokens of all ranks, inside the block.

    Args:
        transformer: a diffusers Wan transformer.
        split: which tokens are where; None leaves everything as it is.
    Raises:
        UnavailableError: this diffusers is too old.
    """
    if split is None:
        yield
        return
    layers = [block.attn1 for block in transformer.blocks]
    kept = [layer.processor for layer in layers]
    config = _config(split, layers[0].heads)
    for layer in layers:
        layer.processor = _processor(layer.processor, config)
    try:
        yield
    finally:
        for layer, processor in zip(layers, kept, strict=True):
            layer.processor = processor


def _config(split: Split, heads: int) -> Any:
    """diffusers' configuration of the group; both of its ways take parts of any length."""
    group = split.group
    if group not in _configs:
        try:
            from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig
            from torch.distributed.device_mesh import init_device_mesh

            if uses_heads(group.size, heads):
                ways = ContextParallelConfig(ulysses_degree=group.size, ulysses_anything=True)
            else:
                ways = ContextParallelConfig(ring_degree=group.size, ring_anything=True)
        except (ImportError, TypeError) as error:
            raise UnavailableError(
                what="This diffusers has no context parallelism for parts of any length.",
                why="WAN_LOCAL_FORWARD is diffusers, and its own attention is used then.",
                fix="Leave WAN_LOCAL_FORWARD out, or install the newest diffusers.",
            ) from error
        mesh = init_device_mesh(
            group.device.type, ways.mesh_shape, mesh_dim_names=ways.mesh_dim_names
        )
        config = ParallelConfig(context_parallel_config=ways)
        config.setup(group.rank, group.size, group.device, mesh=mesh)
        _configs[group] = config
    return _configs[group]


def _processor(processor: Any, config: Any) -> Any:
    if config.context_parallel_config.ring_degree == 1:
        changed = copy(processor)
        changed._parallel_config = config
        return changed
    return _dispatching(processor, _ring(config))


def _ring(config: Any) -> Callable[..., Tensor]:
    """diffusers' ring, with an attention that gives the sums: its native one refuses to."""
    from diffusers.models.attention_dispatch import TemplatedRingAnythingAttention

    def forward(_: Any, query: Tensor, key: Tensor, value: Tensor, *__: Any, **___: Any) -> Any:
        return attend_with_sums(query, key, value)

    def dispatch(query: Tensor, key: Tensor, value: Tensor, **_: Any) -> Tensor:
        rest = (None, 0.0, False, None, False, False, forward, None, config)
        return TemplatedRingAnythingAttention.apply(query, key, value, *rest)

    return dispatch


def _dispatching(processor: Any, dispatch: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The processor's own code with another function where it calls for attention."""
    call = type(processor).__call__
    names = {**call.__globals__, "dispatch_attention_fn": dispatch}
    code = FunctionType(call.__code__, names, call.__name__, call.__defaults__, call.__closure__)
    return lambda *args, **options: code(processor, *args, **options)
