"""The public SDK, unmodified, against every real ComfyUI that is found, with the tiny models."""

import asyncio
import contextlib
import json
import signal
import threading
import time
from pathlib import Path

import av
import pytest
import requests
from host.fixtures import NO_CHECKOUT
from host.hosts import find_checkouts
from host.real_host import NODE_PREFIX, RealHost
from serve_process import LONG

inferencesh = pytest.importorskip("inferencesh")
from inferencesh import inference  # noqa: E402

pytestmark = pytest.mark.comfy
ASSETS = Path(__file__).resolve().parents[2] / "assets"
KEY = "inf_of_these_tests"
ENVIRONMENT = {
    "WAN_LOCAL_SERVICE": "1",
    "WAN_LOCAL_SERVICE_MODELS": "tiny",
    "WAN_LOCAL_API_KEY": KEY,
    "WAN_LOCAL_ALLOW_DOWNLOADS": "1",
}
I2V, ANIMATE = "infsh/wan2-1-i2v", "infsh/wan-2-2-animate-v2v"
SMALL = {
    "prompt": "a red ball rolls over the floor",
    "size": "96x64",
    "num_frames": 9,
    "num_inference_steps": 4,
    "seed": 11,
}
COMPLETED, FAILED, CANCELLED = 10, 11, 12
STEPS = 100
"""Enough of them to be seen one after the other."""


class ServiceHost(RealHost):
    """A ComfyUI whose process can be killed and started again."""

    def __init__(self, checkout, environment=ENVIRONMENT, arguments=()):
        self.given = environment, arguments
        # Older hosts make previews only if they were started so.
        asks = "preview_method" in (checkout / "execution.py").read_text("utf8")
        super().__init__(checkout, previews=not asks, env=environment, arguments=arguments)

    def kill(self):
        self._signal(signal.SIGKILL)
        self.process.wait(timeout=20)

    def start_again(self):
        self._launch(self.previews, *self.given)
        self._await_nodes(NODE_PREFIX)

    @property
    def base_url(self):
        return f"{self.url}/infsh"

    def ask(self, method, path, **options):
        headers = {"Authorization": f"Bearer {KEY}"}
        return requests.request(
            method, self.base_url + path, headers=headers, timeout=60, **options
        )

    def task(self, task_id):
        answer = self.ask("GET", f"/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def until(self, task_id, done, seconds=60):
        """The task, once `done(task)`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            task = self.task(task_id)
            if done(task):
                return task
            time.sleep(0.02)
        raise AssertionError(f"{task}\n{self.log()[-3000:]}")

    def ended(self, task_id):
        return self.until(task_id, lambda task: task["status"] >= COMPLETED)


FOUND = find_checkouts()


@pytest.fixture(
    scope="module",
    params=FOUND or [pytest.param(None, marks=pytest.mark.skip(reason=NO_CHECKOUT))],
    ids=lambda path: getattr(path, "name", "ComfyUI"),
)
def comfy(request):
    host = ServiceHost(request.param)
    yield host
    host.close()


@pytest.fixture
def client(comfy):
    return inference(api_key=KEY, base_url=comfy.base_url)


@pytest.fixture
def picture(client):
    return client.files.upload(str(ASSETS / "sample.png"))["uri"]


def begin(client, picture, **more):
    """A task that was just queued."""
    given = {**SMALL, "input_image": picture, **more}
    return client.run({"app": I2V, "input": given}, wait=False)["id"]


def frames_in(uri):
    answer = requests.get(uri, timeout=60)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Content-Security-Policy"] == "sandbox"
    import io

    with av.open(io.BytesIO(answer.content)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_image_to_video_streams_and_gives_a_video(comfy, client, picture):
    given = {**SMALL, "input_image": picture, "temporal_upsampling": "rife2"}
    statuses = [
        int(update["status"]) for update in client.run({"app": I2V, "input": given}, stream=True)
    ]
    assert statuses == sorted(statuses) and statuses[-1] == COMPLETED and len(set(statuses)) > 2
    listed = comfy.ask("POST", "/tasks/list", json={"limit": 1}).json()["data"]["items"]
    task = comfy.task(listed[0]["id"])
    assert frames_in(task["output"]["video"]["uri"]) == 17
    assert task["input"]["seed"] == 11 and task["progress"] == 100
    meta = task["output"]["output_meta"]["outputs"][0]
    assert (meta["type"], meta["width"], meta["height"], meta["fps"]) == ("video", 96, 48, 32)
    assert not list((comfy.base / "input" / "infsh").glob("*"))


def test_a_local_path_and_a_drawn_seed(comfy, client):
    given = {**SMALL, "input_image": str(ASSETS / "sample.png"), "seed": -1}
    result = client.run({"app": I2V, "input": given})
    assert result["status"] == COMPLETED and result["input"]["seed"] >= 0
    assert frames_in(result["output"]["video"]["uri"]) == 9


def test_the_object_form_of_a_file(client, picture):
    given = {**SMALL, "input_image": {"uri": picture}, "end_frame": picture, "seed": 12}
    assert client.run({"app": I2V, "input": given})["status"] == COMPLETED


@pytest.mark.parametrize("mode", ["animation", "replacement"])
def test_animation_and_replacement(client, mode):
    given = {
        "driving_video": str(ASSETS / "puppet.mp4"),
        "reference_image": str(ASSETS / "character.png"),
        "mode": mode,
        "resolution_width": 96,
        "resolution_height": 64,
        "sampling_steps": 2,
        "clip_len": 9,
        "fps": 4,
        "retarget_flag": mode == "animation",
    }
    result = client.run({"app": ANIMATE, "input": given})
    assert result["status"] == COMPLETED
    assert frames_in(result["output"]["output_video"]) == 12


def test_the_asynchronous_client(comfy):
    async def run():
        client = inferencesh.async_inference(api_key=KEY, base_url=comfy.base_url)
        given = {**SMALL, "input_image": str(ASSETS / "sample.png"), "seed": 13}
        return await client.run({"app": I2V, "input": given})

    assert asyncio.run(run())["status"] == COMPLETED


def test_all_missing_fields_are_named_at_once(client):
    with pytest.raises(inferencesh.APIError) as refused:
        client.run({"app": I2V, "input": {}})
    assert refused.value.status_code == 422
    assert "prompt" in str(refused.value) and "input_image" in str(refused.value)


def test_missing_weights_raise_what_the_sdk_has_for_them(client, picture):
    with pytest.raises(inferencesh.RequirementsNotMetError) as refused:
        begin(client, picture, lora_file="not-there.safetensors")
    assert "not-there.safetensors" in str(refused.value) and "models/loras" in str(refused.value)


def test_a_download_does_not_hold_up_the_answer_and_fails_the_task(comfy, client, picture):
    task_id = begin(client, picture, lora_file="https://127.0.0.1:1/style.safetensors")
    task = comfy.ended(task_id)
    assert task["status"] == FAILED and "127.0.0.1" in task["error"]


def test_progress_rises_and_a_preview_is_there(comfy, client, picture):
    task_id = begin(client, picture, seed=21, num_inference_steps=STEPS, tea_cache=0)
    headers = {"Authorization": f"Bearer {KEY}"}
    seen, pictures = [], []
    with requests.get(
        f"{comfy.base_url}/tasks/{task_id}/stream", headers=headers, stream=True, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            event = json.loads(line)
            if event.get("type") == "heartbeat":
                continue
            seen.append(event)
            if event["preview"] and not pictures:
                pictures.append(requests.get(event["preview"], timeout=60))
    shares = [event["progress"] for event in seen]
    assert shares == sorted(shares) and shares[-1] == 100 and len(set(shares)) > 3
    stages = {event["stage"] for event in seen}
    assert any(stage.startswith("Wan Sampler ") and f"/{STEPS}" in stage for stage in stages)
    assert pictures[0].status_code == 200 and pictures[0].content[:2] == b"\xff\xd8"


@pytest.mark.parametrize("pause", [0.0, 0.03, 0.1, 0.4])
def test_cancelling_the_running_task(comfy, client, picture, pause):
    """From the first moment on: the host's own flag would be lost in the first milliseconds."""
    task_id = begin(client, picture, seed=30, tea_cache=0, **LONG)
    time.sleep(pause)
    client.cancel(task_id)
    task = comfy.ended(task_id)
    assert task["status"] == CANCELLED and task["output"] is None
    assert not (comfy.base / "output" / "infsh" / task_id).exists()
    # The next one is not hit by what was meant for this one.
    assert comfy.ended(begin(client, picture, seed=31))["status"] == COMPLETED


def test_cancelling_a_waiting_task(comfy, client, picture):
    first = begin(client, picture, seed=40, tea_cache=0, **LONG)
    second = begin(client, picture, seed=41)
    third = begin(client, picture, seed=42)
    waiting = comfy.until(third, lambda task: task["status"] >= 2)
    assert waiting["queue_position"] in (1, 2)
    client.cancel(second)
    assert comfy.ended(second)["status"] == CANCELLED
    client.cancel(first)
    assert comfy.ended(first)["status"] == CANCELLED
    assert comfy.ended(third)["status"] == COMPLETED


def test_waiting_in_one_thread_and_cancelling_in_another(comfy, client, picture):
    raised = []

    def wait():
        given = {**SMALL, "input_image": picture, **LONG, "tea_cache": 0}
        try:
            client.run({"app": I2V, "input": {**given, "prompt": "wait", "seed": 50}})
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    end = time.monotonic() + 30
    task = {}
    while time.monotonic() < end and not task:
        items = comfy.ask("POST", "/tasks/list", json={"limit": 5}).json()["data"]["items"]
        task = next((i for i in items if 2 <= i["status"] < COMPLETED), {})
    client.cancel(task["id"])
    thread.join(timeout=30)
    assert raised and "cancelled" in raised[0].lower()


def test_a_job_deleted_in_the_page_ends_as_cancelled(comfy, client, picture):
    first = begin(client, picture, seed=60, tea_cache=0, **LONG)
    comfy.until(first, lambda task: task["status"] >= 7)
    second = begin(client, picture, seed=61)
    comfy._ask("/queue", {"clear": True})
    comfy._ask("/interrupt", {})  # the page's button
    assert comfy.ended(first)["status"] == CANCELLED
    assert comfy.ended(second)["status"] == CANCELLED


def test_retry_makes_another_video_of_the_same_seed(comfy, client, picture):
    first = comfy.ended(begin(client, picture, seed=-1))
    answer = comfy.ask("POST", f"/tasks/{first['id']}/retry")
    assert answer.status_code in (200, 201), answer.text
    second = comfy.ended(answer.json()["data"]["id"])
    assert second["status"] == COMPLETED and second["input"]["seed"] == first["input"]["seed"]
    assert second["output"]["video"]["uri"] != first["output"]["video"]["uri"]
    assert frames_in(second["output"]["video"]["uri"]) == 9


def test_deleting_a_task_deletes_its_files(comfy, client, picture):
    task = comfy.ended(begin(client, picture, seed=70))
    folder = comfy.base / "output" / "infsh" / task["id"]
    assert list(folder.iterdir())
    assert comfy.ask("DELETE", f"/tasks/{task['id']}?files=true").status_code == 204
    assert not folder.exists() or not list(folder.iterdir())


def test_bad_keys_are_refused(comfy):
    for headers in ({}, {"Authorization": "Bearer inf_wrong"}):
        answer = requests.get(f"{comfy.base_url}/tasks/task_x", headers=headers, timeout=60)
        assert answer.status_code == 401
        assert answer.headers["Content-Type"].startswith("application/problem+json")


TEXTS = {"minimum": "", "maximum": "", "choices": "", "description": ""}


def app_input(name, type, default="", **given):
    inputs = {"name": name, "type": type, "default": default, **TEXTS, **given}
    return {"class_type": "WanLocalAppInput", "inputs": inputs}


@pytest.fixture
def workflow(comfy):
    """A user's workflow in API format, in the folder where the page saves."""
    graph = {
        "1": app_input("picture", "image"),
        "2": app_input("factor", "number", "0.5", minimum="0.1", maximum="4"),
        "3": {
            "class_type": "WanLocalLanczosResize",
            "inputs": {"frames": ["1", 0], "factor": ["2", 0]},
        },
        "4": {
            "class_type": "WanLocalAppOutput",
            "inputs": {"name": "result", "filename_prefix": "x", "value": ["3", 0]},
        },
    }
    path = comfy.base / "user" / "default" / "workflows" / "Half Size.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(graph))
    yield "local/half-size"
    path.unlink()


def test_a_users_workflow_is_an_app(comfy, client, workflow):
    listed = comfy.ask("POST", "/apps/list", json={}).json()["data"]["items"]
    assert workflow in {f"{app['namespace']}/{app['name']}" for app in listed}
    app = comfy.ask("GET", f"/apps/{workflow}").json()["data"]
    schema = app["version"]["input_schema"]["properties"]
    assert schema["factor"]["default"] == 0.5 and schema["factor"]["maximum"] == 4
    with pytest.raises(inferencesh.APIError) as refused:
        client.run({"app": workflow, "input": {"factor": 9}})
    assert "picture" in str(refused.value) and "factor" in str(refused.value)
    given = {"picture": str(ASSETS / "sample.png"), "factor": 0.25}
    result = client.run({"app": workflow, "input": given})
    answer = requests.get(uri_of(result["output"]["result"]), timeout=60)
    assert answer.content[:4] == b"\x89PNG"
    width, height = (int.from_bytes(answer.content[n : n + 4], "big") for n in (16, 20))
    assert (width, height) == (160, 96)


def uri_of(output):
    return output["uri"] if isinstance(output, dict) else output


def test_a_failing_node_is_told_in_one_line(comfy, client, workflow):
    path = comfy.base / "user" / "default" / "workflows" / "Failing.json"
    graph = {
        "1": app_input("words", "text", "hello"),
        "2": {
            "class_type": "WanLocalAppOutput",
            "inputs": {"name": "result", "filename_prefix": "x", "value": ["1", 0]},
            "_meta": {"title": "My output"},
        },
    }
    path.write_text(json.dumps(graph))
    try:
        with pytest.raises(RuntimeError) as failed:
            client.run({"app": "local/failing", "input": {}})
    finally:
        path.unlink()
    text = str(failed.value)
    assert text.startswith("My output: ") and "type str" in text
    assert "\n" not in text and "Traceback" not in text


def test_a_killed_server_keeps_what_was_done(comfy, client, picture):
    done = comfy.ended(begin(client, picture, seed=80))
    running = begin(client, picture, seed=81, tea_cache=0, **LONG)
    waiting = begin(client, picture, seed=82)
    comfy.until(running, lambda task: task["status"] >= 4)
    comfy.kill()
    comfy.start_again()
    assert comfy.task(done["id"])["status"] == COMPLETED
    assert frames_in(comfy.task(done["id"])["output"]["video"]["uri"]) == 9
    stopped = comfy.ended(running)
    assert stopped["status"] == FAILED and "server" in stopped["error"]
    assert comfy.ended(waiting)["status"] == COMPLETED


@pytest.mark.skipif(not FOUND, reason=NO_CHECKOUT)
def test_off_beyond_loopback_unless_a_key_was_set():
    host = ServiceHost(FOUND[-1], {}, ["--listen", "0.0.0.0"])
    with contextlib.closing(host):
        answer = requests.get(f"{host.base_url}/apps/infsh/wan2-1-i2v", timeout=60)
        assert answer.status_code == 404 and "errors" not in answer.text
