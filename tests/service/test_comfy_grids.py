"""Grids, workers and metrics of the service inside every real ComfyUI that is found."""

import json

import pytest
from test_comfy_service import I2V, SMALL, client, comfy, picture

pytestmark = pytest.mark.comfy
assert client and comfy and picture


def test_a_grid_runs_in_comfyuis_queue(comfy, picture):
    values = {**SMALL, "input_image": picture}
    seed = values.pop("seed")
    body = {"app": I2V, "input": values, "grid": {"seed": [seed, seed + 1], "shift": [3, 5]}}
    answer = comfy.ask("POST", "/grids", json=body)
    assert answer.ok, answer.text
    grid = answer.json()["data"]
    with comfy.ask("GET", f"/grids/{grid['id']}/stream", stream=True) as stream:
        states = [json.loads(line) for line in stream.iter_lines() if line]
    end = states[-1]
    assert end["counts"]["completed"] == 4, end
    assert len({item["output"]["video"]["uri"] for item in end["items"]}) == 4
    assert comfy.ask("GET", f"/grids/{grid['id']}/sheet").json()["data"]["size"] > 0

    found = comfy.ask("GET", "/cluster").json()["data"]
    assert found["executor"] == "comfyui" and found["queue"]["waiting"] == 0
    [worker] = found["workers"]
    assert worker["status"] == "idle" and worker["jobs_done"] == 4 and worker["devices"] == ["cpu"]

    text = comfy.ask("GET", "/metrics").text
    assert f'wan_tasks_ended_total{{app="{I2V}",outcome="completed"}} 4' in text
    assert f'wan_step_seconds_count{{app="{I2V}"}}' in text
