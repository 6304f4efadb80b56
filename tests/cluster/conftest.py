"""One Ray cluster for all tests of this folder that need one."""

import pytest


@pytest.fixture(scope="session")
def nodes():
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray_cluster import Nodes

    cluster = Nodes(2)
    yield cluster
    cluster.close()
