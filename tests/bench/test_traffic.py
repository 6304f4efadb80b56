"""What a block moves through memory, counted on meta tensors at true size."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def counted():
    """(ours, diffusers') of one block of the 14B model at 32,760 tokens, 16 bits."""
    spec = importlib.util.spec_from_file_location("traffic", ROOT / "bench" / "traffic.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["traffic"] = module
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
        return module.own_and_stock()
    finally:
        sys.path[:] = before


def test_our_block_moves_at_most_12_gigabytes(counted):
    ours, _ = counted
    assert ours.nbytes <= 12e9 and ours.kernels <= 10, ours.by_name


def test_the_stock_block_counts_as_it_was_published(counted):
    """So that both are counted by the same rules: 61.6 GB in 59 kernels."""
    _, stock = counted
    assert stock.nbytes == pytest.approx(61.6e9, rel=0.03) and abs(stock.kernels - 59) <= 4
