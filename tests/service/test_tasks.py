import asyncio
import json
import threading
import time

import pytest
import requests
from small_media import small_video
from wan_local.wan.service.executor import Outcome
from wan_local.wan.service.problems import ApiError
from wan_local.wan.service.statuses import Status


def test_a_task_from_request_to_result(service):
    task = service.run(seed=7)
    assert task["status"] in (1, 2, 7, 10) and task["id"].startswith("task_")
    end = service.wait(task["id"])
    assert end["status"] == 10 and end["status_text"] == "completed" and end["progress"] == 100
    assert end["input"]["seed"] == 7 and end["input"]["num_frames"] == 81  # the default
    video = end["output"]["video"]
    assert video["content_type"] == "video/mp4" and video["size"] > 100
    got = service.ask("GET", video["uri"], key=None)
    assert got.ok and len(got.content) == video["size"] and b"ftyp" in got.content[:12]
    meta = end["output"]["output_meta"]["outputs"][0]
    assert (meta["type"], meta["width"], meta["height"], meta["fps"]) == ("video", 64, 48, 8)
    assert [e["status"] for e in end["events"]] == [1, 2, 7, 10]


def test_the_animate_app_answers_with_an_address(service):
    values = {
        "driving_video": service.upload(small_video(), "a.mp4"),
        "reference_image": {"uri": service.run()["id"]},
    }
    body = {"app": "infsh/wan-2-2-animate-v2v", "input": values}
    assert service.ask("POST", "/apps/run", json=body).status_code == 422
    body["input"]["reference_image"] = {"uri": service.i2v()["input"]["input_image"]}
    end = service.wait(service.data("POST", "/apps/run", json=body)["id"])
    assert end["output"]["output_video"].startswith("http://127.0.0.1")


def test_no_update_tells_half_of_an_end(service, monkeypatch):
    """Whoever hears that a task completed gets its output, however slow the store is."""
    from wan_local.wan.service.store import Store

    some_files, save_task = Store.some_files, Store.save_task

    async def slow_files(self, file_ids):
        wanted = list(file_ids)
        await asyncio.sleep(0.15)
        return await some_files(self, wanted)

    async def slow_save(self, task, **options):
        await asyncio.sleep(0.15)
        await save_task(self, task, **options)

    monkeypatch.setattr(Store, "some_files", slow_files)
    monkeypatch.setattr(Store, "save_task", slow_save)

    async def script(job, tell):
        for step in range(4):
            tell.progress(job.task_id, step / 4, f"step {step}")
            await asyncio.sleep(0.07)
        return service.executor.completed(job)

    service.executor.script = script
    for _ in range(3):
        task = service.run()
        with service.ask("GET", f"/tasks/{task['id']}/stream", stream=True) as answer:
            lines = [json.loads(line) for line in answer.iter_lines() if line]
        ends = [line for line in lines if line["status"] == 10]
        assert len(ends) == 1 and ends[0]["output"]["video"]["size"] > 0
        assert all(line["output"] is None for line in lines[:-1])
        stored = service.call(service.service.store.task(task["id"]))
        assert stored.status is Status.COMPLETED


def test_drawn_seeds_are_recorded(service):
    for values in ({}, {"seed": -1}):
        seed = service.wait(service.run(**values)["id"])["input"]["seed"]
        assert seed >= 0 and seed == service.executor.jobs[-1].values["seed"]


def test_the_pages_empty_input_names_what_is_missing(service):
    answer = service.ask("POST", "/apps/run", json={"app": "infsh/wan2-1-i2v", "input": {}})
    assert answer.status_code == 422
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    found = answer.json()
    assert found["type"].endswith("/errors/validation_error")
    assert [e["field"] for e in found["errors"]] == ["prompt", "input_image"]
    assert service.data("POST", "/tasks/list", json={})["items"] == []


def test_a_job_that_fails_tells_why(service):
    async def script(job, tell):
        return Outcome(Status.FAILED, error="Sampler: the latents are no numbers.")

    service.executor.script = script
    end = service.wait(service.run()["id"])
    assert end["status"] == 11 and end["output"] is None
    assert end["error"] == "Sampler: the latents are no numbers."


def test_a_result_that_is_not_there_fails_the_task(service):
    async def script(job, tell):
        return Outcome(Status.COMPLETED, {"video": job.folder / "none.mp4"})

    service.executor.script = script
    end = service.wait(service.run()["id"])
    assert end["status"] == 11 and "none.mp4" in end["error"]


def slow(started, go_on):
    """A job that says that it began, and waits."""

    async def script(job, tell):
        started.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return None

    return script


@pytest.fixture
def busy(service):
    """A service whose executor has a job under way until `go_on` is set."""
    started, go_on = threading.Event(), threading.Event()

    async def script(job, tell):
        started.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    task = service.run()
    assert started.wait(10)
    service.go_on, service.task = go_on, task
    return service


def test_waiting_tasks_know_their_place(busy):
    second, third = busy.run(), busy.run()
    assert second["status"] == 2 and second["queue_position"] == 1
    assert busy.data("GET", f"/tasks/{third['id']}")["queue_position"] == 2
    assert busy.data("GET", f"/tasks/{busy.task['id']}")["queue_position"] == 0
    busy.go_on.set()
    assert busy.wait(third["id"])["queue_position"] == 0


def test_cancelling_a_waiting_task_ends_it_at_once(busy):
    waiting = busy.run()
    assert busy.data("POST", f"/tasks/{waiting['id']}/cancel")["status"] == 12
    assert busy.wait(waiting["id"])["status"] == 12


def test_cancelling_a_running_task(busy):
    answer = busy.data("POST", f"/tasks/{busy.task['id']}/cancel")
    assert answer["status"] in (8, 12)
    assert busy.wait(busy.task["id"])["status"] == 12
    again = busy.ask("POST", f"/tasks/{busy.task['id']}/cancel")
    assert again.status_code == 409 and again.json()["code"] == "invalid_transition"


def test_a_task_that_completes_in_spite_of_a_cancel_is_completed(service):
    started = threading.Event()

    async def script(job, tell):
        started.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
        return service.executor.completed(job)

    service.executor.script = script
    task = service.run()
    assert started.wait(10)
    assert service.data("POST", f"/tasks/{task['id']}/cancel")["status"] == 8
    assert service.data("GET", f"/tasks/{task['id']}/status")["status"] == 8
    end = service.wait(task["id"])
    assert end["status"] == 10 and end["output"]["video"]["size"] > 0


def test_progress_never_falls_and_ends_at_100(service):
    async def script(job, tell):
        for share in (0.1, 0.4, 0.2, 1.0, 0.5):
            tell.progress(job.task_id, share, f"at {share}")
            tell.log(job.task_id, f"line\u2028{share}")
            tell.status(job.task_id, Status.SETTING_UP)  # behind where it is
            await asyncio.sleep(0.15)
        return service.executor.completed(job)

    service.executor.script = script
    task = service.run()
    with service.ask("GET", f"/tasks/{task['id']}/stream", stream=True) as answer:
        content = answer.content
    assert content.isascii()  # clients cut lines at rarer characters too
    lines = [json.loads(line) for line in content.splitlines()]
    values = [line["progress"] for line in lines]
    assert values == sorted(values) and values[-1] == 100 and 99 in values and len(lines) > 4
    statuses = [line["status"] for line in lines]
    assert statuses == sorted(statuses)
    assert [e["status"] for e in lines[-1]["events"]] == [1, 2, 7, 10]
    assert {line["stage"] for line in lines} >= {"at 0.1", "at 0.4"}
    logs = service.data("GET", f"/tasks/{task['id']}/logs")["logs"]
    assert [line["content"] for line in logs] == [
        f"line\u2028{s}" for s in (0.1, 0.4, 0.2, 1.0, 0.5)
    ]
    keys = {frozenset(line) for line in lines}
    assert len(keys) == 1  # every key every time: a client that merges keeps no stale one


def test_a_silent_task_says_something_now_and_then(make_service):
    service = make_service(event_seconds=0.2)

    async def script(job, tell):
        await asyncio.sleep(1.2)
        return service.executor.completed(job)

    service.executor.script = script
    task = service.run()
    with service.ask("GET", f"/tasks/{task['id']}/stream", stream=True) as answer:
        lines = [json.loads(line) for line in answer.iter_lines() if line]
    running = [line["updated_at"] for line in lines if line["status"] == 7]
    assert len(running) >= 3 and len(set(running)) == len(running)


def test_the_stream_of_an_ended_task_is_one_line(service):
    task = service.run()
    service.wait(task["id"])
    answer = service.ask("GET", f"/tasks/{task['id']}/stream")
    assert answer.text.count("\n") == 1 and answer.headers["Content-Type"].startswith(
        "application/x-ndjson"
    )
    sse = service.ask("GET", f"/tasks/{task['id']}/stream", headers={"Accept": "text/event-stream"})
    assert sse.text.startswith("data: {") and sse.text.endswith("}\n\n")


def test_events_hold_only_the_last_lines(service):
    async def script(job, tell):
        for i in range(50):
            tell.log(job.task_id, f"line {i}")
        return service.executor.completed(job)

    service.executor.script = script
    end = service.wait(service.run()["id"])
    assert [line["content"] for line in end["logs"]] == [f"line {i}" for i in range(30, 50)]
    assert len(service.data("GET", f"/tasks/{end['id']}/logs")["logs"]) == 50


def test_previews_can_be_looked_at_while_it_runs(service):
    go_on, shown = threading.Event(), threading.Event()

    async def script(job, tell):
        tell.preview(job.task_id, b"\xff\xd8 first")
        tell.preview(job.task_id, b"\xff\xd8 second")
        await asyncio.sleep(0.05)
        shown.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    task = service.run()
    assert shown.wait(10)
    uri = service.data("GET", f"/tasks/{task['id']}")["preview"]
    picture = service.ask("GET", uri, key=None)
    assert picture.content == b"\xff\xd8 second" and picture.headers["Content-Type"] == "image/jpeg"
    go_on.set()
    assert service.wait(task["id"])["preview"] is None
    assert service.ask("GET", uri, key=None).status_code == 404


def test_retrying_runs_the_same_again(service):
    first = service.wait(service.run(num_frames=9)["id"])
    again = service.data("POST", f"/tasks/{first['id']}/retry")
    assert again["id"] != first["id"]
    second = service.wait(again["id"])
    assert second["input"] == first["input"] and second["status"] == 10
    assert second["output"]["video"]["uri"] != first["output"]["video"]["uri"]


def test_retrying_without_its_file_is_refused(service):
    first = service.wait(service.run()["id"])
    service.data("DELETE", f"/tasks/{first['id']}/files?role=input")
    again = service.ask("POST", f"/tasks/{first['id']}/retry")
    assert again.status_code == 409 and "input_image" in again.json()["detail"]


def test_deleting(busy):
    path = f"/tasks/{busy.task['id']}"
    assert busy.ask("DELETE", path).status_code == 409
    busy.go_on.set()
    uri = busy.wait(busy.task["id"])["output"]["video"]["uri"]
    assert busy.ask("DELETE", f"{path}?files=true").status_code == 204
    assert busy.ask("GET", path).status_code == 404
    assert busy.ask("GET", uri, key=None).status_code == 404
    assert not list((busy.settings.data / "files").iterdir())


def test_files_of_a_task(service):
    picture = service.i2v()["input"]["input_image"]
    first, second = (service.wait(service.run(input_image=picture)["id"]) for _ in range(2))
    found = service.data("GET", f"/tasks/{first['id']}/files")
    assert sorted(f["role"] for f in found) == ["input", "output"]
    [output] = service.data("GET", f"/tasks/{first['id']}/files?role=output")
    assert output["uri"] == first["output"]["video"]["uri"]
    gone = service.data("DELETE", f"/tasks/{first['id']}/files")
    assert gone["deleted"] == [output["id"]] and second["id"] in gone["skipped"][0]["reason"]
    assert service.data("GET", f"/tasks/{first['id']}")["output"]["video"] is None


def test_too_many_waiting_tasks_of_one_key(make_service):
    service = make_service(max_queue=1)
    go_on, started = threading.Event(), threading.Event()
    service.executor.script = slow(started, go_on)
    service.run()
    assert started.wait(10)
    body = service.i2v()
    assert service.ask("POST", "/apps/run", json=body).status_code == 200
    refused = service.ask("POST", "/apps/run", json=body)
    assert refused.status_code == 429 and refused.headers["Retry-After"]


def test_what_the_executor_refuses_is_an_answer_and_leaves_no_task(service):
    action = {"type": "download"}
    missing = {"type": "model", "key": "wan.safetensors", "message": "is missing", "action": action}
    service.executor.refuse = ApiError("requirements_not_met", "is missing", [missing])
    answer = service.ask("POST", "/apps/run", json=service.i2v())
    assert answer.status_code == 412 and answer.json()["errors"] == [missing]
    assert service.data("POST", "/tasks/list", json={})["items"] == []


def test_the_same_idempotency_key_gives_the_same_task(service):
    body, headers = service.i2v(), {"Idempotency-Key": "once"}
    first = service.data("POST", "/apps/run", json=body, headers=headers)
    again = service.data("POST", "/apps/run", json=body, headers=headers)
    assert again["id"] == first["id"] and len(service.executor.jobs) == 1
    body["input"]["prompt"] = "a dog"
    other = service.ask("POST", "/apps/run", json=body, headers=headers)
    assert other.status_code == 409


def test_a_task_can_wait_for_its_time(service):
    body = {**service.i2v(), "run_at": "2999-01-01T00:00:00Z"}
    task = service.data("POST", "/apps/run", json=body)
    time.sleep(0.2)
    assert service.data("GET", f"/tasks/{task['id']}")["status"] == 1 and not service.executor.jobs
    assert service.data("POST", f"/tasks/{task['id']}/cancel")["status"] == 12
    body["run_at"] = "2000-01-01T00:00:00Z"
    assert service.wait(service.data("POST", "/apps/run", json=body)["id"])["status"] == 10


def test_sessions_are_records(make_service):
    service = make_service()
    body = {**service.i2v(), "session": "new", "session_timeout": 1}
    session_id = service.data("POST", "/apps/run", json=body)["session_id"]
    found = service.data("GET", f"/sessions/{session_id}")
    assert found["status"] == "active" and found["call_count"] == 1 and found["idle_timeout"] == 1
    service.data("POST", "/apps/run", json={**service.i2v(), "session": session_id})
    assert service.data("GET", f"/sessions/{session_id}")["call_count"] == 2
    assert service.ask("DELETE", f"/sessions/{session_id}").status_code == 204
    again = service.ask("POST", "/apps/run", json={**service.i2v(), "session": session_id})
    assert again.status_code == 410 and again.json()["code"] == "SESSION_ENDED"
    short = service.data("POST", "/apps/run", json=body)["session_id"]
    time.sleep(1.1)
    assert service.ask("POST", f"/sessions/{short}/keepalive").json()["code"] == "SESSION_EXPIRED"
    assert service.ask("GET", "/sessions/sess_none").json()["code"] == "SESSION_NOT_FOUND"
    assert {s["status"] for s in service.data("GET", "/sessions")} == {"ended", "expired"}


def test_what_has_no_effect_here_is_said(service):
    body = {**service.i2v(audio="x.mp3"), "infra": "private", "workers": ["a"]}
    messages = service.ask("POST", "/apps/run", json=body).json()["messages"]
    assert [m["code"] for m in messages] == ["no_effect", "no_effect", "unknown_field"]


def test_a_restart_runs_what_waited_and_fails_what_ran(busy):
    waiting = [busy.run()["id"] for _ in range(3)]
    picture = busy.data("GET", f"/tasks/{waiting[0]}")["input"]["input_image"]
    busy.restart()
    assert [busy.wait(i)["status"] for i in waiting] == [10, 10, 10]
    assert [job.task_id for job in busy.executor.jobs] == waiting
    failed = busy.data("GET", f"/tasks/{busy.task['id']}")
    assert failed["status"] == 11 and "server stopped" in failed["error"]
    port = busy.port
    again = busy.data("GET", f"/tasks/{waiting[0]}")["input"]["input_image"]
    assert again.partition("/infsh")[2] == picture.partition("/infsh")[2] and str(port) in again


def test_a_restart_can_run_it_once_more(make_service):
    service = make_service(requeue=True)
    go_on, started = threading.Event(), threading.Event()
    service.executor.script = slow(started, go_on)
    task = service.run()
    assert started.wait(10)
    service.restart()
    end = service.wait(task["id"])
    assert end["status"] == 10
    assert [e["status"] for e in end["events"]] == [1, 2, 7, 2, 7, 10]


def test_old_tasks_go_with_their_files(service):
    service.wait(service.run()["id"])
    service.restart(keep_days=0.0)
    deadline = time.monotonic() + 10
    while service.data("POST", "/tasks/list", json={})["items"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list((service.settings.data / "files").iterdir())


def test_a_client_that_goes_away_harms_nobody(busy):
    answer = busy.ask("GET", f"/tasks/{busy.task['id']}/stream", stream=True)
    assert next(answer.iter_lines())
    answer.close()
    busy.go_on.set()
    assert busy.wait(busy.task["id"])["status"] == 10


def test_lists(service):
    ids = [service.wait(service.run(num_frames=n)["id"])["id"] for n in (5, 9, 13)]
    page = service.data("POST", "/tasks/list", json={"limit": 2})
    assert [t["id"] for t in page["items"]] == [ids[2], ids[1]] and page["has_next"]
    rest = service.data("POST", "/tasks/list", json={"limit": 2, "cursor": page["next_cursor"]})
    assert [t["id"] for t in rest["items"]] == [ids[0]] and not rest["has_next"]
    wrong = service.ask("POST", "/tasks/list", json={"filters": [{"field": "x y"}]})
    assert wrong.status_code == 400


def test_timings_of_a_task(service):
    task = service.wait(service.run()["id"])
    found = service.data("GET", f"/tasks/{task['id']}/timings")
    assert [step["status"] for step in found["events"]] == [
        "received",
        "queued",
        "running",
        "completed",
    ]
    assert found["total_duration_ms"] == sum(g["duration_ms"] for g in found["groups"])


def test_an_address_is_fetched_after_the_answer(service):
    source = service.i2v()["input"]["input_image"].replace("127.0.0.1", "localhost")
    # Another service would be another host; this one's own files are not fetched.
    other = requests.get(source, timeout=10)
    assert other.ok
    task = service.run(input_image=f"http://localhost:{service.port}/elsewhere/a.png")
    end = service.wait(task["id"])
    assert end["status"] == 11 and "could not be fetched" in end["error"] and "404" in end["error"]
