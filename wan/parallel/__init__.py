"""One video computed by several processes, each with a share of its tokens (context parallelism).

Rank 0 is the process that runs the app. It starts the others, and hands them what a clip is sampled
from; from then on all of them walk through the same steps, and meet in the self-attention of every
block and behind the last one. Nothing here imports torch.distributed before it is asked for.
"""

from .devices import rank_devices
from .split import Split, split_sizes

__all__ = ["Split", "rank_devices", "split_sizes"]
