"""Over a cluster: its view and metrics, grids, long jobs in parts, several ranks, fp8."""

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed")
from faults import COMPLETED, PICTURE, RUNS, Caller, expected
from ray_cluster import RayServe


@pytest.fixture(scope="module")
def server(nodes, tmp_path_factory):
    """With half a CPU for each worker, so that parts of a job find the rest."""
    more = ("--workers", "2", "--cpus-per-job", "0.5")
    process = RayServe(tmp_path_factory.mktemp("view"), nodes.address, *more)
    yield Caller(process)
    process.stop()


@pytest.fixture
def alone(tmp_path):
    """The frames of a run without server and cluster."""

    def frames(seed, **values):
        values = {**RUNS, "input_image": PICTURE, **values, "seed": seed}
        return expected("wan2-1-i2v", values, tmp_path / f"alone{seed}")

    return frames


def test_a_grid_is_shared_among_the_workers(server, alone):
    values = {**RUNS, "input_image": server.upload(PICTURE)}
    values.pop("seed")
    body = {"app": "infsh/wan2-1-i2v", "input": values, "grid": {"seed": [1, 2, 3, 4]}}
    grid = server.data("POST", "/grids", json=body)
    items = [server.end(item["task_id"]) for item in grid["items"]]
    assert [item["status"] for item in items] == [COMPLETED] * 4
    for seed, task in enumerate(items, 1):
        assert np.array_equal(server.frames(task), alone(seed))
    view = server.data("GET", "/cluster")
    assert view["executor"] == "ray" and len(view["workers"]) == 2
    assert sum(worker["jobs_done"] for worker in view["workers"]) == 4
    assert all(worker["jobs_done"] for worker in view["workers"])
    assert {worker["status"] for worker in view["workers"]} == {"idle"}
    assert all(worker["devices"] == ["cpu"] for worker in view["workers"])
    assert all("wan2-1-i2v" in model for worker in view["workers"] for model in worker["models"])
    numbers = server.ask("GET", "/metrics").text
    assert 'state="idle"} 2' in numbers


def test_upsampling_a_long_video_in_parts(server, alone):
    """RIFE and Lanczos of 69 frames: more than a part of each."""
    values = {"num_frames": 69, "num_inference_steps": 2, "temporal_upsampling": "rife2"}
    values |= {"spatial_upsampling": "lanczos1.5"}
    task = server.end(server.i2v(seed=9, **values), seconds=240)
    assert task["status"] == COMPLETED, task["error"]
    whole = alone(9, **values)
    assert len(whole) == 137 and np.array_equal(server.frames(task), whole)


def test_two_ranks_in_a_worker_and_fp8(nodes, alone, tmp_path):
    more = ("--workers", "1", "--ranks", "2", "--fp8", "--cpus-per-job", "0.5")
    process = RayServe(tmp_path / "data", nodes.address, *more)
    try:
        caller = Caller(process)
        task = caller.end(caller.i2v(seed=4))
        assert task["status"] == COMPLETED, task["error"]
        said = " ".join(line["content"] for line in task["logs"])
        assert "2 ranks compute together" in said and "fp8 cannot be used" in said
        apart = np.abs(caller.frames(task).astype(int) - alone(4).astype(int))
        # Sums in another order: a value may round to its neighbour, and H.264 makes more of it.
        assert apart.mean() < 0.05 and apart.max() <= 8
    finally:
        process.stop()


def test_ranks_and_gpus_that_do_not_fit(tmp_path):
    from wan_local.wan.cli import main

    given = ("serve", "--models", "tiny", "--data", str(tmp_path), "--executor", "ray")
    assert main([*given, "--ranks", "2", "--gpus-per-job", "3"]) == 2
    assert main([*given, "--ranks", "0"]) == 2
