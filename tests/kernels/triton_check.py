"""The checks of test_kernels on the Triton kernels; run with TRITON_INTERPRET=1, see there."""

import pytest
from test_kernels import *  # noqa: F403
from wan_local.wan.kernels import triton_kernels

for name in (
    "test_operators_say_what_they_change",
    "test_the_choice",
    "test_both_ways_to_turn_pairs_are_the_same",
):
    del globals()[name]
del globals()["test_triton_kernels_interpreted"]


@pytest.fixture
def steps():
    return triton_kernels
