"""The public SDK, unmodified, against `python -m wan serve` with the tiny models."""

import asyncio
import base64
import http.server
import io
import json
import os
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest
import requests
from serve_process import ASSETS, KEY, LONG, ROOT, SMALL, ServeProcess

inferencesh = pytest.importorskip("inferencesh")
from inferencesh import async_inference, inference  # noqa: E402
from inferencesh.models.errors import APIError  # noqa: E402

I2V, ANIMATE = "infsh/wan2-1-i2v", "infsh/wan-2-2-animate-v2v"
COMPLETED, FAILED, CANCELLED = 10, 11, 12
STEPS = {"num_inference_steps": 60, "num_frames": 17}
"""Enough of them to be seen one after the other."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = ServeProcess(tmp_path_factory.mktemp("serve"))
    yield process
    process.stop()


@pytest.fixture
def client(server):
    return inference(api_key=KEY, base_url=server.base_url)


@pytest.fixture(scope="module")
def picture():
    return str(ASSETS / "sample.png")


def i2v(picture, **values):
    return {"app": I2V, "input": {**SMALL, "input_image": picture, **values}}


def content(output):
    answer = requests.get(output["uri"] if isinstance(output, dict) else output, timeout=20)
    assert answer.ok and answer.headers["Content-Type"] == "video/mp4"
    return answer.content


def pixels(output):
    with av.open(io.BytesIO(content(output))) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def until(condition, seconds=180):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_run_waits_for_the_result(client, picture):
    result = client.run(i2v(picture))
    assert result["status"] == COMPLETED and b"ftyp" in content(result["output"]["video"])[:12]
    assert result["input"]["seed"] == 11 and result["output"]["output_meta"]["outputs"]


def test_the_animate_app_runs_from_local_paths(client):
    values = {
        "driving_video": str(ASSETS / "puppet.mp4"),
        "reference_image": str(ASSETS / "character.png"),
        "resolution_width": 64,
        "resolution_height": 64,
        "fps": 4,
        "clip_len": 5,
        "sampling_steps": 2,
    }
    result = client.run({"app": ANIMATE, "input": values})
    assert b"ftyp" in content(result["output"]["output_video"])[:12]


def test_a_stream_yields_updates(client, picture):
    updates = list(client.run(i2v(picture, seed=12, **STEPS), stream=True))
    statuses = [update["status"] for update in updates]
    assert statuses == sorted(statuses) and statuses[-1] == COMPLETED and len(updates) > 3
    assert updates[-1]["output"]["video"]["uri"]


def test_without_waiting(client, picture):
    task = client.run(i2v(picture, seed=13), wait=False)
    assert task["status"] < COMPLETED
    end = until(lambda: (t := client.get_task(task["id"]).data)["status"] == COMPLETED and t)
    assert content(end["output"]["video"])


def test_files_in_every_form(client, server, picture):
    uploaded = client.files.upload(picture)
    data = base64.b64encode((ASSETS / "sample.png").read_bytes()).decode()
    given = [
        uploaded["uri"],
        {"uri": uploaded["uri"]},
        f"data:image/png;base64,{data}",
        {"path": picture},
        data,
    ]
    videos = [pixels(client.run(i2v(one))["output"]["video"]) for one in given]
    assert all((video == videos[0]).all() for video in videos)  # the same picture each time


def test_a_prompt_that_looks_like_base64_comes_back(client, picture):
    result = client.run(i2v(picture, prompt="supercoolcatjump"))
    assert result["input"]["prompt"] == "supercoolcatjump"


def test_all_wrong_fields_at_once(client):
    with pytest.raises(APIError) as raised:
        client.run({"app": I2V, "input": {"num_frames": "many", "sample_solver": "euler"}})
    assert raised.value.status_code == 422 and raised.value.code == "validation_error"
    fields = {error["field"] for error in json.loads(raised.value.response_body)["errors"]}
    assert fields == {"prompt", "input_image", "num_frames", "sample_solver"}


@pytest.mark.parametrize("app", [I2V, ANIMATE])
def test_the_pages_own_snippet_names_what_is_missing(client, app):
    with pytest.raises(APIError) as raised:
        client.run({"app": app, "input": {}})
    needed = {I2V: "input_image", ANIMATE: "driving_video"}[app]
    assert needed in str(raised.value)


@pytest.mark.parametrize("reference", ["infsh/none", "wan2-1-i2v", f"{I2V}@none", f"{I2V}:none"])
def test_an_app_that_is_not_there(client, reference):
    with pytest.raises(APIError) as raised:
        client.run({"app": reference, "input": {}})
    assert raised.value.status_code in (400, 404)


def test_cancelling_running_and_waiting_tasks(client, picture):
    running = client.run(i2v(picture, **LONG), wait=False)
    waiting = client.run(i2v(picture), wait=False)
    until(lambda: client.get_task(running["id"]).data["status"] == 7)
    client.cancel(waiting["id"])
    assert client.get_task(waiting["id"]).data["status"] == CANCELLED
    client.cancel(running["id"])
    with pytest.raises(RuntimeError, match=r"(?i)cancelled"):
        client.wait_for_completion(running["id"])
    with pytest.raises(APIError) as raised:
        client.cancel(running["id"])
    assert raised.value.status_code == 409


def test_cancelling_in_the_first_moment(client, picture):
    for _ in range(5):
        task = client.run(i2v(picture, **LONG), wait=False)
        client.cancel(task["id"])
        until(lambda task=task: client.get_task(task["id"]).data["status"] == CANCELLED)


ROUTES = [
    ("POST", "/apps/run"),
    ("POST", "/apps/list"),
    ("GET", "/apps/infsh/wan2-1-i2v"),
    ("POST", "/tasks/list"),
    ("GET", "/tasks/x"),
    ("DELETE", "/tasks/x"),
    *(("GET", f"/tasks/x/{part}") for part in ("status", "stream", "logs", "timings", "files")),
    ("POST", "/tasks/x/cancel"),
    ("POST", "/tasks/x/retry"),
    ("DELETE", "/tasks/x/files"),
    ("POST", "/files"),
    ("POST", "/files/list"),
    ("GET", "/files/x"),
    ("DELETE", "/files/x"),
    ("GET", "/sessions"),
    ("GET", "/sessions/x"),
    ("DELETE", "/sessions/x"),
    ("POST", "/sessions/x/keepalive"),
    ("GET", "/whatever"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {KEY}"])
def test_no_route_works_without_the_key(server, method, path, header):
    headers = {"Authorization": header} if header else {}
    answer = requests.request(method, server.base_url + path, headers=headers, timeout=10)
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "unauthorized" and KEY not in answer.text


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes webhooks; fails as often as it was told."""

    failures, bodies = 0, []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Receiver.failures -= 1
        if Receiver.failures < 0:
            Receiver.bodies.append((json.loads(body), self.headers["webhook-signature"]))
        self.send_response(500 if Receiver.failures >= 0 else 200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Receiver.failures, Receiver.bodies = 0, []
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()


def test_webhooks_of_completed_and_cancelled_tasks(client, picture, receiver):
    Receiver.failures = 1
    done = client.run({**i2v(picture, seed=21), "webhook": receiver}, wait=False)
    stopped = client.run({**i2v(picture, **LONG), "webhook": receiver}, wait=False)
    client.cancel(stopped["id"])
    until(lambda: len(Receiver.bodies) == 2)
    found = {body["id"]: body for body, signature in Receiver.bodies if signature}
    assert found[done["id"]]["status"] == 9 and found[done["id"]]["output"]["video"]["uri"]
    assert found[stopped["id"]]["status"] == 11 and found[stopped["id"]]["output"] is None


def test_a_failed_job_says_why(client, server, picture, tmp_path):
    # A picture that can be opened, and is cut off where its pixels should be.
    cut = tmp_path / "cut.png"
    cut.write_bytes((ASSETS / "sample.png").read_bytes()[:3000])
    with pytest.raises((APIError, RuntimeError)) as raised:
        client.run(i2v(str(cut)))
    assert "input_image" in str(raised.value) or "cut" in str(raised.value)


def test_a_crash_of_the_worker_fails_its_job_alone(client, server, picture, receiver):
    task = client.run({**i2v(picture, **LONG), "webhook": receiver}, wait=False)
    until(lambda: client.get_task(task["id"]).data["status"] == 7)
    subprocess.run(["pkill", "-9", "-P", str(server.process.pid)], check=True)
    with pytest.raises(RuntimeError, match="process that ran the task ended"):
        client.wait_for_completion(task["id"])
    assert client.run(i2v(picture))["status"] == COMPLETED
    [(body, _)] = until(lambda: Receiver.bodies)
    assert body["status"] == 10 and "process that ran the task ended" in body["error"]


def test_twenty_clients_at_once(server, picture):
    uri = inference(api_key=KEY, base_url=server.base_url).files.upload(picture)["uri"]
    results, lock = [], threading.Lock()

    def one(number):
        client = inference(api_key=KEY, base_url=server.base_url)
        result = client.run(i2v(uri, seed=100 + number))
        with lock:
            results.append((number, result["input"]["seed"], result["output"]["video"]["uri"]))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert sorted(seed - 100 for _, seed, _ in results) == list(range(20))
    assert all(number == seed - 100 for number, seed, _ in results)
    assert len({uri for _, _, uri in results}) == 20


def test_the_asyncio_client(server, picture):
    async def work():
        client = async_inference(api_key=KEY, base_url=server.base_url)
        file = await client.files.upload(picture)
        result = await client.run(i2v(file["uri"], seed=31))
        assert result["status"] == COMPLETED
        task = await client.run(i2v(picture, seed=32), wait=False)
        statuses = [update["status"] async for update in client.stream_task(task["id"])]
        assert statuses[-1] == COMPLETED
        stopped = await client.run(i2v(picture, **LONG), wait=False)
        await client.cancel(stopped["id"])
        with pytest.raises(RuntimeError, match=r"(?i)cancelled"):
            await client.wait_for_completion(stopped["id"])
        with pytest.raises(APIError):
            await client.run({"app": I2V, "input": {}})

    asyncio.run(work())


def test_our_client_prints_what_the_pages_promise(server, picture, monkeypatch):
    from wan_local.wan import client as ours

    monkeypatch.setenv("WAN_API_BASE_URL", server.base_url + "/")
    monkeypatch.setenv("INFERENCE_API_KEY", KEY)
    client = ours.inference()
    file = client.files.upload(picture)
    assert file.uri.startswith("http://127.0.0.1")
    seen = []
    for update in client.run(i2v(file.uri, seed=41, **STEPS), stream=True):
        if update.get("progress"):
            seen.append(update["progress"])
    assert seen == sorted(seen) and seen[-1] == 100 and len(seen) > 2

    async def work():
        client = ours.async_inference()
        file = await client.files.upload(picture)
        stream = await client.run(i2v(file.uri, seed=42), stream=True)
        return [update["progress"] async for update in stream]

    assert asyncio.run(work())[-1] == 100


def test_the_command_line_runs_on_a_server(server, tmp_path, picture):
    values = {**SMALL, "input_image": picture}
    inputs = [part for name, v in values.items() for part in ("--input", f"{name}={v}")]
    command = [sys.executable, "-m", "wan", "run", "wan2-1-i2v", *inputs]
    command += ["--server", server.base_url, "--out", str(tmp_path / "a.mp4")]
    environment = {**os.environ, "WAN_LOCAL_API_KEY": KEY}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.mp4").stat().st_size > 1000 and "seed 11" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    wrong = subprocess.run(
        [*command, "--input", "shift=many"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2 and "shift" in wrong.stderr
