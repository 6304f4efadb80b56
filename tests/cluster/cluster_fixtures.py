"""Fixtures that several tests share: one Ray cluster, and one object store, for all of them."""

import os

import pytest

__all__ = ["nodes", "object_store"]


@pytest.fixture(scope="session")
def nodes():
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray_cluster import Nodes

    cluster = Nodes(2)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def object_store():
    pytest.importorskip("moto", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    from object_store import ObjectStore

    store = ObjectStore()
    # fsspec keeps what it made with the environment of that moment, so it stays to the end.
    os.environ.update(store.environment)
    store.make_bucket()
    yield store
    for name in store.environment:
        os.environ.pop(name)
    store.close()
