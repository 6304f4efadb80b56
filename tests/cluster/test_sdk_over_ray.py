"""The tests of the public SDK, unchanged, over a Ray cluster."""

import pytest

pytest.importorskip("inferencesh")
import test_sdk
from ray_cluster import RayServe
from test_sdk import *  # noqa: F403

# Here a job outlives the end of the server's child; what becomes of it is in test_faults.
del test_a_crash_of_the_worker_fails_its_job_alone  # noqa: F821
globals().update({name: getattr(test_sdk, name) for name in ("client", "picture", "receiver")})


@pytest.fixture(scope="module")
def server(nodes, tmp_path_factory):
    # One worker, as the tests want a second task to wait.
    process = RayServe(tmp_path_factory.mktemp("ray"), nodes.address, "--workers", "1")
    yield process
    process.stop()
