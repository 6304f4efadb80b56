"""GET /metrics, read with Prometheus' own parser."""

import asyncio
import threading

import pytest
from test_grids import neighbour
from wan_local.wan.service.executor import Outcome
from wan_local.wan.service.statuses import Status
from wan_local.wan.service.watch.exposition import Histogram, histograms, metric
from wan_local.wan.version import version

parser = pytest.importorskip("prometheus_client.parser")
assert neighbour
I2V = "infsh/wan2-1-i2v"


def read(text):
    """{(name, labels as sorted pairs): value}, and the families."""
    families = list(parser.text_string_to_metric_families(text))
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples
    }
    assert len(samples) == sum(len(f.samples) for f in families), "a sample came twice"
    return samples, families


class Numbers:
    def __init__(self, service):
        answer = service.ask("GET", "/metrics")
        assert answer.ok, answer.text
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.samples, self.families = read(answer.text)

    def __call__(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))))


def test_a_service_that_did_nothing(service):
    numbers = Numbers(service)
    assert numbers("wan_service_info", version=version(), executor="scripted") == 1
    assert numbers("wan_queue_length") == 0 and numbers("wan_files_bytes") == 0
    assert numbers("wan_workers", state="idle") == 1 and numbers("wan_workers", state="busy") == 0
    assert numbers("wan_free_bytes") > 0 and numbers("wan_service_start_time_seconds") > 1e9
    assert all(
        f.documentation and f.type in ("gauge", "counter", "histogram") for f in numbers.families
    )
    assert service.ask("GET", "/metrics", key=None).status_code == 401


def test_what_ended_is_counted_by_app_and_outcome(service):
    async def script(job, tell):
        if job.values["seed"] == 1:
            return Outcome(Status.FAILED, error="It broke.")
        return service.executor.completed(job)

    service.executor.script = script
    for seed in (1, 2, 3):
        service.wait(service.run(seed=seed)["id"])
    numbers = Numbers(service)
    assert numbers("wan_tasks_ended_total", app=I2V, outcome="completed") == 2
    assert numbers("wan_tasks_ended_total", app=I2V, outcome="failed") == 1
    assert numbers("wan_task_waiting_seconds_count", app=I2V) == 3
    assert numbers("wan_task_running_seconds_count", app=I2V) == 2
    assert numbers("wan_task_running_seconds_bucket", app=I2V, le="+Inf") == 2
    assert numbers("wan_worker_jobs_total", worker="one", node="here") == 3


def test_what_is_open_is_counted_by_status(service):
    go_on = threading.Event()

    async def script(job, tell):
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    tasks = [service.run() for _ in range(3)]
    numbers = Numbers(service)
    assert numbers("wan_tasks", app=I2V, status="running") == 1
    assert numbers("wan_tasks", app=I2V, status="queued") == 2
    assert numbers("wan_queue_length") == 2 and numbers("wan_workers", state="busy") == 1
    go_on.set()
    for task in tasks:
        service.wait(task["id"])
    numbers = Numbers(service)
    assert numbers("wan_tasks", app=I2V, status="running") is None
    assert numbers("wan_queue_length") == 0


def test_steps_are_measured(service):
    times = iter([10.0, 10.2, 13.2])
    service.service.meter.clock._clock = lambda: next(times)

    async def script(job, tell):
        for step in (0, 1, 4):
            tell.progress(job.task_id, 0.1, f"sample {step}/4")
        return service.executor.completed(job)

    service.executor.script = script
    service.wait(service.run()["id"])
    numbers = Numbers(service)
    assert numbers("wan_step_seconds_count", app=I2V) == 4
    assert numbers("wan_step_seconds_sum", app=I2V) == pytest.approx(3.2)
    assert numbers("wan_step_seconds_bucket", app=I2V, le="0.25") == 1
    assert numbers("wan_step_seconds_bucket", app=I2V, le="1") == 4


def test_bytes_are_those_of_the_files(service):
    task = service.wait(service.run()["id"])
    sizes = [f["size"] for f in service.data("POST", "/files/list", json={})["items"]]
    service.data("POST", "/files", json={"files": [{"filename": "later.png", "size": 10**6}]})
    numbers = Numbers(service)
    assert numbers("wan_files_bytes") == sum(sizes) > 0 and numbers("wan_files") == len(sizes) == 2
    service.ask("DELETE", f"/tasks/{task['id']}?files=true")
    assert Numbers(service)("wan_files_bytes") == 0


def test_webhooks_are_counted_by_result(service, neighbour):
    body = {**service.i2v(), "webhook": neighbour.url}
    service.wait(service.data("POST", "/apps/run", json=body)["id"])
    neighbour.told.get(timeout=30)
    for _ in range(100):
        found = Numbers(service)("wan_webhook_attempts_total", result="delivered")
        if found:
            break
        threading.Event().wait(0.05)
    assert found == 1


def test_labels_hold_any_text():
    name = 'local/a "b"\\c\nd{},= é'
    samples, _ = read(
        "\n".join(metric("a_total", "counter", "A\\n\nB", [({"app": name}, 3)])) + "\n"
    )
    assert samples == {("a_total", (("app", name),)): 3}


def test_a_histogram_counts_up_to_its_bounds():
    histogram = Histogram((1, 2.5))
    for value in (0.5, 1, 2, 9):
        histogram.add(value)
    samples, [family] = read("\n".join(histograms("a", "A.", {"x": histogram}, "app")) + "\n")
    counts = {
        dict(labels).get("le"): n for (name, labels), n in samples.items() if "bucket" in name
    }
    assert counts == {"1": 2, "2.5": 3, "+Inf": 4} and family.type == "histogram"
    assert samples["a_sum", (("app", "x"),)] == 12.5 and samples["a_count", (("app", "x"),)] == 4
