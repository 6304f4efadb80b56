"""Skipping steps: what is skipped is planned before the first step, then reused from a cache."""

from .magcache import MagCache
from .plan import CachePolicy, RunFacts, SkipPlan, compute_all
from .residual import ResidualCache
from .teacache import TeaCache, time_embeddings

__all__ = [
    "CachePolicy",
    "MagCache",
    "ResidualCache",
    "RunFacts",
    "SkipPlan",
    "TeaCache",
    "compute_all",
    "time_embeddings",
]
