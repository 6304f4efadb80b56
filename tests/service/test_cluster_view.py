"""Who works on what, and who waits: GET /cluster, over real executors too."""

import asyncio
import base64
import platform
import threading

import pytest
import requests
from serve_process import ASSETS, KEY, LONG, SMALL, ServeProcess
from test_worker import on_bench
from wan_local.wan.service.watch.steps import StepClock


@pytest.fixture
def busy(service):
    """A service whose executor has jobs under way until `go_on` is set."""
    go_on = threading.Event()

    async def script(job, tell):
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    service.go_on = go_on
    yield service
    go_on.set()


def test_an_idle_service(service):
    found = service.data("GET", "/cluster")
    assert found["executor"] == "scripted" and found["links"]["dashboard"].startswith("http")
    assert found["queue"] == {"waiting": 0, "by_key": {}, "by_priority": {}}
    [worker] = found["workers"]
    assert worker["status"] == "idle" and worker["task_id"] is None
    assert worker["devices"] == ["cpu"] and worker["models"] == ["a model"]
    assert service.ask("GET", "/cluster", key=None).status_code == 401


def test_workers_and_queue_of_a_busy_service(busy):
    first = busy.run()
    body = busy.i2v()
    for priority in (0, 5, 5):
        busy.data("POST", "/apps/run", json={**body, "metadata": {"priority": priority}})
    found = busy.data("GET", "/cluster")
    assert found["workers"][0]["status"] == "busy"
    assert found["workers"][0]["task_id"] == first["id"]
    queue = found["queue"]
    assert queue["waiting"] == 3 and queue["by_priority"] == {"5": 2, "0": 1}
    [(key_id, waiting)] = queue["by_key"].items()
    assert waiting == 3 and key_id.startswith("key_") and KEY not in str(found)


def test_an_executor_that_tells_nothing(service):
    executor = service.executor

    class Mute:
        start, submit, cancel, close = (
            executor.start,
            executor.submit,
            executor.cancel,
            executor.close,
        )

    service.service._cluster._executor = Mute()
    found = service.data("GET", "/cluster")
    assert found["executor"] == "" and found["workers"] == []
    assert found["links"] == {"dashboard": None}
    assert service.ask("GET", "/metrics").ok


def test_the_seconds_of_a_step_are_those_of_the_task_that_runs(service):
    told, go_on = threading.Event(), threading.Event()
    times = iter([10.0, 10.5, 12.0])
    service.service.meter.clock._clock = lambda: next(times)

    async def script(job, tell):
        for stage in ("load the models", "sample 0/4", "sample 1/4", "sample 4/4"):
            tell.progress(job.task_id, 0.1, stage)
        told.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    task = service.run()
    assert told.wait(10)
    while service.data("GET", f"/tasks/{task['id']}")["stage"] != "sample 4/4":
        pass
    assert service.data("GET", "/cluster")["workers"][0]["seconds_per_step"] == 0.5
    go_on.set()
    service.wait(task["id"])
    assert service.data("GET", "/cluster")["workers"][0]["seconds_per_step"] is None
    assert service.service.meter.clock.seconds(task["id"]) is None  # nothing is kept of it


@pytest.mark.parametrize(
    ("stages", "wanted"),
    [
        (["sample 0/3", "sample 1/3", "sample 3/3"], [None, (1, 1.0), (2, 0.5)]),
        (["Wan Sampler 1/9", "Wan Sampler 1/9", "Wan Sampler 2/9"], [None, None, (1, 2.0)]),
        (["sample 1/3", "decode 1/2", "sample 2/3"], [None, None, None]),
        (["clip 1 of 2, step 1 of 4", "clip 1 of 2, step 2 of 4, 3 s a step"], [None, (1, 1.0)]),
        (["clip 1 of 2, step 3 of 4", "clip 2 of 2, step 0 of 4"], [None, None]),
        (["resample 1/3", "resample 2/3"], [None, None]),
    ],
)
def test_steps_are_heard_in_what_tasks_say(stages, wanted):
    times = iter(range(100))
    clock = StepClock(lambda: float(next(times)))
    assert [clock.hear("a", stage) for stage in stages] == wanted


def test_the_process_of_the_worker_executor(tmp_path):
    async def script(bench):
        [info] = await bench.executor.workers()
        assert (info.status, info.models, info.devices) == ("idle", (), ("cpu",))
        assert info.node == platform.node()
        await bench.submit("long", **LONG)
        states = []

        def poll():
            worker = asyncio.get_running_loop().create_task(bench.executor.workers())
            worker.add_done_callback(lambda done: states.append(done.result()[0]))
            return any(state.models for state in states)

        await bench.until(poll)
        assert states[0].status == "starting" and states[-1].status == "busy"
        assert states[-1].task_id == "long" and states[-1].models == ("wan2-1-i2v",)
        await bench.executor.cancel("long")
        await bench.end("long")
        [info] = await bench.executor.workers()
        assert (info.status, info.jobs_done, info.task_id) == ("idle", 1, None)
        assert info.models == ("wan2-1-i2v",)
        bench.executor._kill()
        await bench.until(lambda: bench.executor.pid is None)
        assert (await bench.executor.workers())[0].models == ()

    on_bench(tmp_path, script)


def test_over_serve(tmp_path):
    server = ServeProcess(tmp_path)
    try:
        headers = {"Authorization": f"Bearer {KEY}"}

        def ask(method, path, **options):
            address = server.base_url + path
            return requests.request(method, address, headers=headers, timeout=60, **options)

        with (ASSETS / "sample.png").open("rb") as file:
            picture = "data:image/png;base64," + base64.b64encode(file.read()).decode()
        body = {"app": "infsh/wan2-1-i2v", "input": {**SMALL, "input_image": picture}}
        body["grid"] = {"seed": [body["input"].pop("seed"), 12]}
        grid = ask("POST", "/grids", json=body).json()["data"]
        with ask("GET", f"/grids/{grid['id']}/stream", stream=True) as answer:
            lines = list(answer.iter_lines())
        assert b'"status_text":"completed"' in lines[-1]
        found = ask("GET", "/cluster").json()["data"]
        assert found["executor"] == "worker" and found["links"] == {"dashboard": None}
        [worker] = found["workers"]
        assert worker["jobs_done"] == 2 and worker["models"] == ["wan2-1-i2v"]
        text = ask("GET", "/metrics").text
        assert 'wan_tasks_ended_total{app="infsh/wan2-1-i2v",outcome="completed"} 2' in text
        # Two steps each: the first has nothing to be measured from but its own beginning.
        assert 'wan_step_seconds_count{app="infsh/wan2-1-i2v"} 4' in text
    finally:
        server.stop()
