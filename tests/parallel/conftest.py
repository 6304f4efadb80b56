import sys

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def can_compute_together():
    if sys.platform == "win32" or not torch.distributed.is_available():
        pytest.skip("needs processes that fork, and torch.distributed")
