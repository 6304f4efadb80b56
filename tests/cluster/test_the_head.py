"""The head of the cluster dies. Comes last of its folder: it leaves the cluster another one."""

import time

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed")
from faults import COMPLETED, I2V, PICTURE, RUNS, Caller, expected, statuses
from ray_cluster import RayServe

LONG = {"num_inference_steps": 100, "num_frames": 161, "size": "320x320"}


def test_the_queue_waits_for_a_new_head(nodes, tmp_path):
    server = RayServe(tmp_path / "data", nodes.address, "--workers", "1")
    call = Caller(server)
    try:
        running, waiting = call.i2v(1, **LONG), call.i2v(2)
        assert call.until(running, 7)["status"] == 7
        nodes.kill_head()
        end = time.monotonic() + 40
        while "out of reach" not in call.task(waiting)["stage"]:
            assert time.monotonic() < end
            time.sleep(0.1)
        late = call.i2v(3)  # the server still takes jobs
        assert "out of reach" in call.task(late)["stage"]
        nodes.restart()
        task = call.until(running, 2, seconds=90)
        assert any("was lost with the cluster" in line["content"] for line in task["logs"])
        call.data("POST", f"/tasks/{running}/cancel")
        for task_id, seed in ((waiting, 2), (late, 3)):
            task = call.end(task_id)
            assert task["status"] == COMPLETED and statuses(task).count(COMPLETED) == 1
            values = {**RUNS, "input_image": PICTURE, "seed": seed}
            right = expected(I2V, values, tmp_path / f"alone{seed}")
            assert np.array_equal(call.frames(task), right)
    finally:
        server.stop()
