"""The ways to name a cluster, and an object store as what its machines share."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed")
from faults import COMPLETED, I2V, PICTURE, RUNS, Caller, expected
from ray_cluster import RayServe
from test_bad_input import refusal

QUICK = {"num_inference_steps": 2, "num_frames": 5}


@contextmanager
def serving(monkeypatch, data, address, *more, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    server = RayServe(data, address, *more)
    try:
        yield Caller(server)
    finally:
        server.stop()
    said = "".join(server.errors)
    assert "Traceback" not in said and "never retrieved" not in said, said


def raylets():
    import psutil

    return {p.pid for p in psutil.process_iter(["name"]) if p.info["name"] == "raylet"}


def test_a_cluster_of_its_own_over_an_object_store(monkeypatch, tmp_path, object_store):
    home, before = tmp_path / "home", raylets()
    home.mkdir()
    storage = f"{object_store.url}/service"
    with serving(monkeypatch, tmp_path / "data", "local", "--storage", storage, HOME=home) as call:
        task = call.end(call.i2v(7, **QUICK))
        assert task["status"] == COMPLETED, task["error"]
        values = {**RUNS, **QUICK, "input_image": PICTURE, "seed": 7}
        assert np.array_equal(call.frames(task), expected(I2V, values, tmp_path / "alone"))
        assert raylets() - before
    # Nothing of it stays: no process, and no token that a later cluster would ask for.
    end = time.monotonic() + 20
    while raylets() - before:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert not (home / ".ray").exists()
    assert not (tmp_path / "data" / "storage").exists()


def test_the_cluster_of_this_machine(monkeypatch, tmp_path, nodes):
    with serving(monkeypatch, tmp_path / "data", "auto", RAY_ADDRESS=nodes.address) as call:
        task = call.end(call.i2v(8, **QUICK))
        assert task["status"] == COMPLETED, task["error"]


HEAD = """
import sys, ray
ray.init("local", include_dashboard=False, num_cpus=1, _node_ip_address=sys.argv[1])
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def test_a_head_with_a_token(monkeypatch, tmp_path):
    from ray.util import get_node_ip_address

    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 8 * "of these tests, "}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD, get_node_ip_address()],
        env={**os.environ, **token},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as head:
        address = head.stdout.readline().strip()
        said = refusal(tmp_path / "data", "--address", address)
        assert "does not let this server in" in said and "RAY_AUTH_MODE=token" in said
        with serving(monkeypatch, tmp_path / "data", address, **token) as call:
            assert call.end(call.i2v(9, **QUICK))["status"] == COMPLETED
        head.stdin.close()
