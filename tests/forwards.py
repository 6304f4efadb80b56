"""The fixture `forward`: everything that asks for it runs with our own forwards and with the stock."""

import pytest

# Sums are taken in another order; float32 keeps about 1e-7 of each.
RELATIVE = 1e-5


class Forward:
    """How close a result is to that of the stock modules."""

    def __init__(self, kind):
        self.kind = kind

    def expect_equal(self, ours, expected):
        """Bit for bit with the stock modules, else within what rounding explains."""
        difference = (ours - expected).norm() / expected.norm()
        assert difference == 0 if self.kind == "diffusers" else difference < RELATIVE


@pytest.fixture(params=["own", "diffusers"])
def forward(request, monkeypatch):
    monkeypatch.setenv("WAN_LOCAL_FORWARD", request.param)
    return Forward(request.param)
