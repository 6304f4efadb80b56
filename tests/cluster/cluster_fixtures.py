"""The fixture `nodes`: one Ray cluster for all tests that need one."""

import pytest

__all__ = ["nodes"]


@pytest.fixture(scope="session")
def nodes():
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray_cluster import Nodes

    cluster = Nodes(2)
    yield cluster
    cluster.close()
