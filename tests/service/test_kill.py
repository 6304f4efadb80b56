"""kill -9 of the server at random points: afterwards every task and every file is as told."""

import random
import time

import pytest
import requests
from serve_process import ASSETS, KEY, SMALL, ServeProcess

inferencesh = pytest.importorskip("inferencesh")
KILLS = 20
ENDS = (10, 11, 12)


def ask(server, method, path, **options):
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = requests.request(
        method, server.base_url + path, headers=headers, timeout=20, **options
    )
    assert answer.ok, answer.text
    return answer.json()["data"]


def look(server, completed):
    """Every task is in a true state; every finished file is there, and what was, still is."""
    items = ask(server, "POST", "/tasks/list", json={"limit": 200})["items"]
    found = {task["id"]: task for task in items}
    for task in items:
        if task["status"] == 10:
            uri = task["output"]["video"]["uri"]
            got = requests.get(uri, timeout=20)
            assert got.ok and len(got.content) == task["output"]["video"]["size"], task
            completed.setdefault(task["id"], got.content)
        elif task["status"] == 11:
            assert "server stopped" in task["error"], task
        else:
            assert task["output"] is None
    for task_id, content in completed.items():
        task = found[task_id]
        assert task["status"] == 10
        assert requests.get(task["output"]["video"]["uri"], timeout=20).content == content
    return found


def test_a_killed_server_loses_nothing(tmp_path):
    chance = random.Random(7)
    server = ServeProcess(tmp_path / "data")
    accepted, completed = set(), {}
    client = inferencesh.inference(api_key=KEY, base_url=server.base_url)
    picture = client.files.upload(str(ASSETS / "sample.png"))["uri"].partition("/infsh")[2]
    try:
        for _ in range(KILLS):
            for _ in range(chance.randint(1, 2)):
                values = {
                    **SMALL,
                    "input_image": server.base_url.removesuffix("/infsh") + "/infsh" + picture,
                    "seed": chance.randint(0, 1000),
                }
                body = {"app": "infsh/wan2-1-i2v", "input": values}
                accepted.add(ask(server, "POST", "/apps/run", json=body)["id"])
            time.sleep(chance.uniform(0.0, 4.0))
            server.kill()
            server.start()
            assert accepted <= look(server, completed).keys()
        end = time.monotonic() + 120
        while any(t["status"] not in ENDS for t in look(server, completed).values()):
            assert time.monotonic() < end
            time.sleep(0.2)
        assert completed and len(look(server, completed)) == len(accepted)
    finally:
        server.stop()
