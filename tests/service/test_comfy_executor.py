"""Moments that a real ComfyUI shows once in a hundred runs, made to happen each time.

The server here is a queue without anything behind it; everything else is the code that runs in
ComfyUI. What a real server can show is tested on it, in test_comfy_service.py.
"""

import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from wan_local.nodes import host_server
from wan_local.nodes.service import executor as module
from wan_local.nodes.service.executor import ComfyExecutor
from wan_local.nodes.service.graphs import Filled
from wan_local.wan.service.executor import Job
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.statuses import Status

GRAPH = {"1": {"class_type": "WanLocalSaveVideo", "inputs": {"x": [1, 2]}, "_meta": {}}}
TASK = "task_" + 32 * "a"


class Queue:
    """As much of ComfyUI's PromptQueue as the service touches."""

    def __init__(self):
        self.mutex = threading.RLock()
        self.queue, self.currently_running, self.history = [], {}, {}

    def get_current_queue_volatile(self):
        return list(self.currently_running.values()), list(self.queue)

    def get_history(self, prompt_id, map_function):
        entry = self.history.get(prompt_id)
        return {prompt_id: map_function(entry)} if entry else {}

    def delete_queue_item(self, wanted):
        found = [item for item in self.queue if wanted(item)]
        self.queue = [item for item in self.queue if item not in found]
        return bool(found)

    def take(self):
        self.currently_running[0] = self.queue.pop(0)

    def finish(self, message, outputs=None):
        item = self.currently_running.pop(0)
        status = {"status_str": "?", "messages": [[message, {}]]}
        self.history[item[1]] = {"outputs": outputs or {}, "status": status}


class Server:
    def __init__(self):
        self.sockets, self.sockets_metadata, self.prompt_queue = {}, {}, Queue()
        handler = SimpleNamespace(method="POST", path="/prompt", handler=self.take)
        self.routes, self.refuses, self.bodies = [handler], None, []

    async def take(self, request):
        body = await request.json()
        assert request.headers == {}
        self.bodies.append(body)
        if self.refuses:
            return SimpleNamespace(status=400, body=json.dumps(self.refuses))
        item = (len(self.bodies), body["prompt_id"], body["prompt"], {}, [])
        self.prompt_queue.queue.append(item)
        return SimpleNamespace(status=200, body=b"{}")

    async def tell(self, kind, **data):
        for socket in list(self.sockets.values()):
            await socket.send_json({"type": kind, "data": data})


class Told:
    """A listener that remembers."""

    def __init__(self):
        self.ends, self.statuses, self.logs, self.orders = [], [], [], []

    def status(self, task_id, status):
        self.statuses.append(status)

    def progress(self, task_id, share, stage):
        pass

    def preview(self, task_id, picture):
        pass

    def log(self, task_id, text):
        self.logs.append(text)

    def queue(self, order):
        self.orders.append(order)

    def ended(self, task_id, outcome):
        self.ends.append((task_id, outcome))


@pytest.fixture
def server(stand_in, monkeypatch):
    made = Server()
    monkeypatch.setattr(host_server, "server", lambda: made)
    monkeypatch.setattr(module, "_NET_SECONDS", 0.01)
    monkeypatch.setattr(module, "_CANCEL_SECONDS", 0.01)
    return made


def fill(job, links, prefix, reporter):
    return Filled(GRAPH, {"video": "1"})


def play(scene, made_by=fill, is_slow=lambda job: False):
    async def run():
        told, executor = Told(), ComfyExecutor(made_by, is_slow)
        await executor.start(told)
        await asyncio.wait_for(scene(executor, told), 20)
        await executor.close()
        return told

    return asyncio.run(run())


async def until(done):
    while not done():
        await asyncio.sleep(0.005)


def job(task_id=TASK):
    return Job(task_id, "infsh/wan2-1-i2v", {}, Path("unused"))


def test_a_cancel_is_repeated_until_the_host_has_heard_it(server, monkeypatch):
    calls = []
    monkeypatch.setattr(host_server, "interrupt_current_processing", calls.append)

    async def scene(executor, told):
        await executor.submit(job())
        server.prompt_queue.take()
        await executor.cancel(TASK)
        await until(lambda: len(calls) >= 3)  # the first ones were lost
        server.prompt_queue.finish("execution_interrupted")
        await server.tell("executing", node=None, prompt_id=server.bodies[0]["prompt_id"])
        await until(lambda: told.ends)

    told = play(scene)
    assert [outcome.status for _, outcome in told.ends] == [Status.CANCELLED]


def test_no_other_prompt_is_interrupted(server, monkeypatch):
    calls = []
    monkeypatch.setattr(host_server, "interrupt_current_processing", calls.append)

    async def scene(executor, told):
        await executor.submit(job())
        server.prompt_queue.take()
        server.prompt_queue.finish("execution_interrupted")
        server.prompt_queue.currently_running[0] = (9, "of-somebody-else", {}, {}, [])
        await executor.cancel(TASK)
        await until(lambda: told.ends)

    play(scene)
    assert calls == []


def test_a_job_that_was_faster_than_its_cancel_is_completed(server, stand_in, monkeypatch):
    monkeypatch.setattr(host_server, "interrupt_current_processing", lambda _: None)
    path = stand_in.base / "output" / "infsh" / TASK / "video_00001_.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"video")
    entry = {"filename": path.name, "subfolder": f"infsh/{TASK}", "type": "output"}

    async def scene(executor, told):
        await executor.submit(job())
        server.prompt_queue.take()
        await executor.cancel(TASK)
        server.prompt_queue.finish("execution_success", {"1": {"images": [entry]}})
        await until(lambda: told.ends)

    ((_, outcome),) = play(scene).ends
    assert outcome.status is Status.COMPLETED and path.read_bytes() == b"video"
    assert outcome.files == {"video": path.resolve()}


def test_a_job_that_is_nowhere_ends_as_cancelled_and_is_told_once(server):
    async def scene(executor, told):
        await executor.submit(job())
        server.prompt_queue.queue.clear()
        await until(lambda: told.ends)
        await asyncio.sleep(0.1)

    told = play(scene)
    assert [outcome.status for _, outcome in told.ends] == [Status.CANCELLED]
    assert any("deleted" in line for line in told.logs)


def test_a_cancel_before_the_job_is_queued_keeps_it_out_of_the_queue(server):
    begun, release, went_on = threading.Event(), threading.Event(), []

    def slow(job, links, prefix, reporter):
        begun.set()
        release.wait(10)
        reporter.check_cancelled()
        went_on.append(1)
        return fill(job, links, prefix, reporter)

    async def scene(executor, told):
        await executor.submit(job())
        await until(begun.is_set)
        await executor.cancel(TASK)
        release.set()
        await until(lambda: told.ends)

    told = play(scene, slow, lambda job: True)
    assert [outcome.status for _, outcome in told.ends] == [Status.CANCELLED]
    assert went_on == [] and server.bodies == [] and server.sockets == {}


def test_a_refused_graph_leaves_nothing_behind(server):
    server.refuses = {"error": {"message": "no"}, "node_errors": {}}

    async def scene(executor, told):
        with pytest.raises(ApiError) as refused:
            await executor.submit(job())
        assert refused.value.status == 422
        await executor.cancel(TASK)

    assert play(scene).ends == [] and server.sockets == {}


def test_the_host_gets_a_copy_a_new_id_and_a_socket_that_never_raises(server):
    async def scene(executor, told):
        for number in range(2):
            await executor.submit(job(f"task_{number:032}"))
        first, second = server.bodies
        assert first["prompt"] == GRAPH and first["prompt"] is not GRAPH
        first["prompt"]["1"]["inputs"]["x"].append(3)
        assert GRAPH["1"]["inputs"]["x"] == [1, 2]
        assert first["prompt_id"] != second["prompt_id"] and len(first["prompt_id"]) == 36
        for socket in list(server.sockets.values()):
            for message in (None, {}, {"type": "progress_state", "data": {"nodes": 5}}):
                await socket.send_json(message)
            broken = {"nodes": 5, "prompt_id": first["prompt_id"]}
            await socket.send_json({"type": "progress_state", "data": broken})
            for data in (b"", b"\0\0\0\4\xff\xff\xff\xff{", bytearray(b"\0\0\0\3\0\0\0\1"), 5):
                await socket.send_bytes(data)
        await server.tell("status", status={})
        assert told.orders[-1] == [f"task_{number:032}" for number in range(2)]

    play(scene)


def test_the_one_worker_runs_what_the_host_runs(server, monkeypatch):
    monkeypatch.setattr(host_server, "interrupt_current_processing", lambda _: None)

    async def scene(executor, told):
        [idle] = await executor.workers()
        assert (idle.id, idle.status, idle.task_id, idle.jobs_done) == ("comfyui", "idle", None, 0)
        assert idle.devices == ("cpu",) and executor.name == "comfyui"
        await executor.submit(job())
        assert (await executor.workers())[0].status == "idle"  # it waits
        server.prompt_queue.take()
        [busy] = await executor.workers()
        assert (busy.status, busy.task_id) == ("busy", TASK)
        await executor.cancel(TASK)
        server.prompt_queue.finish("execution_interrupted")
        await server.tell("executing", node=None, prompt_id=server.bodies[0]["prompt_id"])
        await until(lambda: told.ends)
        server.prompt_queue.currently_running[0] = (9, "of-somebody-else", {}, {}, [])
        [other] = await executor.workers()
        assert (other.status, other.task_id, other.jobs_done) == ("busy", None, 1)

    play(scene)
