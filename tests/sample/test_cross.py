"""Keys of the cross-attention: kept over the steps where they are small, and only there."""

from types import SimpleNamespace

import pytest
import torch
from wan_local.wan.sample import cross
from wan_local.wan.sample.cross import Branch, KeyMemory, count_padding

BLOCKS, TOKENS, DIM = 3, 517, 8
# Text and pictures, keys and values, of all blocks, for two branches of guidance, in float32.
NEEDED = 2 * BLOCKS * 2 * TOKENS * DIM * 4


@pytest.fixture
def made(monkeypatch):
    """How often keys were computed, each time others."""
    count = []

    def compute(attn, context, text_tokens, padding):
        count.append(attn)
        text, images = (torch.zeros(1, n, 1, DIM) for n in (512, TOKENS - 512))
        return cross.CrossKeys((text, text.clone()), None, (images, images.clone()))

    monkeypatch.setattr(cross, "cross_keys", compute)
    return count


def look(memory):
    """Two steps of two branches through all blocks."""
    transformer = SimpleNamespace(blocks=range(BLOCKS))
    branch = Branch(torch.zeros(1, TOKENS, DIM))
    for _ in range(2):
        for block in range(BLOCKS):
            for number in (0, 1):
                memory.of(transformer, number, block, (number, block), branch)


def test_small_ones_are_computed_once(made):
    look(KeyMemory(NEEDED))
    assert len(made) == 2 * BLOCKS == len(set(made))


def test_large_ones_are_computed_in_every_step(made):
    look(KeyMemory(NEEDED - 1))
    assert len(made) == 2 * 2 * BLOCKS


def test_padding_is_what_is_zero_at_the_end():
    text = torch.zeros(1, 512, 4)
    assert count_padding(text) == 512
    text[0, 3, 1] = 1
    assert count_padding(text) == 508
    text[0, 511] = -1
    assert count_padding(text) == 0
