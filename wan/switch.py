"""Whether forwards of our own compute, or the stock modules they are equal to."""

from __future__ import annotations

import os

FORWARD = "WAN_LOCAL_FORWARD"
"""The environment variable that decides it."""


def uses_own_forward() -> bool:
    """False where the environment variable WAN_LOCAL_FORWARD is "diffusers". Read at each call."""
    return os.environ.get(FORWARD, "") != "diffusers"
