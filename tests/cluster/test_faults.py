"""Workers, nodes, the server and the head are killed while jobs run."""

import logging
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed")
from faults import (
    ANIMATE,
    CANCELLED,
    COMPLETED,
    DANCE,
    FAILED,
    I2V,
    PICTURE,
    RUNS,
    Caller,
    expected,
    statuses,
)
from ray_cluster import RayServe

log = logging.getLogger(__name__)
POINTS = int(os.environ.get("WAN_LOCAL_KILL_POINTS", "6"))
LONG = {"num_inference_steps": 100, "num_frames": 81, "size": "160x160"}


@pytest.fixture
def serve(nodes, tmp_path):
    started = []

    def start(*more):
        started.append(RayServe(tmp_path / "data", nodes.address, *more))
        return started[-1], Caller(started[-1])

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def one_worker(nodes, tmp_path_factory):
    """A server with one worker, for several tests."""
    server = RayServe(tmp_path_factory.mktemp("one"), nodes.address, "--workers", "1")
    yield server, Caller(server)
    server.stop()


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def pids(nodes):
    return {process.pid for _, process in nodes.workers()}


def kill_worker(nodes):
    for _, process in nodes.workers():
        process.kill()
        return


def test_a_dead_worker_costs_an_attempt_and_its_clips_stay(nodes, one_worker, tmp_path):
    server, call = one_worker
    task_id = call.run(ANIMATE, DANCE)
    storage = Path(server.data) / "storage"
    until(lambda: len(list(storage.glob("*/jobs/*/1/clips/*/clip-*.safetensors"))) >= 2)
    kill_worker(nodes)
    task = call.end(task_id)
    assert task["status"] == COMPLETED, task["error"]
    logs = [line["content"] for line in task["logs"]]
    assert any(line.startswith("attempt 2 of 2: the worker on node ") for line in logs), logs
    assert any("clips are there from a run that was interrupted" in line for line in logs), logs
    events = statuses(task)
    assert events.count(2) == 2 and events.count(COMPLETED) == 1 and task["attempts"] == 2
    assert np.array_equal(call.frames(task), expected(ANIMATE, DANCE, tmp_path / "alone"))


def test_a_dead_driver_costs_nothing(one_worker, tmp_path):
    import psutil

    server, call = one_worker
    values = {"num_inference_steps": 100, "num_frames": 33}
    task_id = call.i2v(4, **values)
    assert call.until(task_id, 7)["status"] == 7
    [driver] = psutil.Process(server.process.pid).children()
    driver.kill()
    task = call.end(task_id)
    assert task["status"] == COMPLETED and task["attempts"] == 1, task["error"]
    assert statuses(task) == sorted(statuses(task))
    lines = [line["content"] for line in task["logs"]]
    assert len(lines) == len(set(lines)) > 0
    values = {**RUNS, "input_image": PICTURE, "seed": 4, **values}
    assert np.array_equal(call.frames(task), expected(I2V, values, tmp_path / "alone"))


def test_out_of_attempts_a_job_fails_and_says_why(nodes, one_worker):
    _, call = one_worker
    task_id = call.i2v(1, **LONG)
    for attempt in (1, 2):
        until(lambda n=attempt: (t := call.task(task_id))["attempts"] == n and t["status"] == 7)
        kill_worker(nodes)
    task = call.end(task_id)
    assert task["status"] == FAILED and "the worker on node" in task["error"], task
    assert call.end(call.i2v(2))["status"] == COMPLETED


def test_a_cancel_reaches_a_running_job(one_worker):
    _, call = one_worker
    task_id = call.i2v(1, **LONG)
    assert call.until(task_id, 7)["status"] == 7
    call.data("POST", f"/tasks/{task_id}/cancel")
    assert call.end(task_id, seconds=2)["status"] == CANCELLED


def test_many_short_jobs_follow_each_other(one_worker):
    _, call = one_worker
    short = {"num_inference_steps": 2, "num_frames": 5}
    tasks = [call.i2v(seed, **short) for seed in range(60)]
    ends = [call.end(task_id) for task_id in tasks]
    assert {task["status"] for task in ends} == {COMPLETED}
    assert {task["attempts"] for task in ends} == {1}


@pytest.fixture
def given_ahead(one_worker):
    """A long job that runs, and a short one that its worker has as its next."""
    server, call = one_worker
    short = {"num_inference_steps": 2, "num_frames": 5}
    assert call.end(call.i2v(1, **short))["status"] == COMPLETED
    long = call.i2v(2, **LONG)
    waiting = call.i2v(3, **short)
    storage = Path(server.data) / "storage"

    def tries(task_id):
        return len(list(storage.glob(f"*/jobs/{task_id}/*/begun.json")))

    until(lambda: tries(waiting) == 1)
    assert call.until(long, 7)["status"] == 7
    yield long, waiting, tries
    for task_id in (long, waiting):
        call.ask("POST", f"/tasks/{task_id}/cancel")
        call.end(task_id)


def test_a_job_given_ahead_loses_no_attempt_with_its_worker(nodes, one_worker, given_ahead):
    _, call = one_worker
    long, waiting, _ = given_ahead
    assert call.task(waiting)["status"] == 2
    kill_worker(nodes)
    until(lambda: call.task(long)["attempts"] == 2)
    call.data("POST", f"/tasks/{long}/cancel")
    task = call.end(waiting)
    assert task["status"] == COMPLETED and task["attempts"] == 1
    assert not [line for line in task["logs"] if "attempt" in line["content"]]


def test_a_job_given_ahead_comes_back_if_it_cannot_begin_soon(one_worker, given_ahead):
    _, call = one_worker
    long, waiting, tries = given_ahead
    time.sleep(3)  # the worker is not as quick as it was thought to be
    assert call.task(long)["status"] == 7 and call.task(waiting)["status"] == 2
    call.data("POST", f"/tasks/{long}/cancel")
    found = []
    until(lambda: found.append(tries(waiting)) or found[-1] != 1)
    assert found[-1] == 2
    task = call.end(waiting)
    assert task["status"] == COMPLETED and task["attempts"] == 1


def test_a_job_given_ahead_is_cancelled_at_once(one_worker, given_ahead):
    _, call = one_worker
    long, waiting, _ = given_ahead
    call.data("POST", f"/tasks/{waiting}/cancel")
    assert call.end(waiting, seconds=1)["status"] == CANCELLED
    assert call.task(long)["status"] == 7


def test_nothing_is_lost_doubled_or_wrong(nodes, serve, tmp_path):
    """Kills at random points: a worker, a node, or the server."""
    chance = random.Random(3)
    server, call = serve("--workers", "2", "--retries", str(POINTS))
    seeds, count = {}, 0
    for point in range(POINTS):
        for _ in range(chance.randint(1, 2)):
            count += 1
            seeds[call.i2v(count)] = count
        first = next(iter(seeds)) if point == 0 else None
        if first:
            call.until(first, 7)
        time.sleep(chance.uniform(0.0, 3.0))
        kind = ("worker", "server", "node")[point % 3]
        if kind == "worker":
            kill_worker(nodes)
        elif kind == "server":
            server.kill()
            server.start()
        else:
            busy = [node for node, _ in nodes.workers()]
            nodes.kill_node(busy[0] if busy else nodes.nodes[0])
            nodes.add()
    ends = {task_id: call.end(task_id, seconds=240) for task_id in seeds}
    lost = [t["error"] for t in ends.values() if t["status"] != COMPLETED]
    doubled = [i for i, t in ends.items() if statuses(t).count(COMPLETED) != 1]
    wrong = []
    for task_id, seed in seeds.items():
        values = {**RUNS, "input_image": PICTURE, "seed": seed}
        right = expected(I2V, values, tmp_path / f"alone{seed}")
        if not np.array_equal(call.frames(ends[task_id]), right):
            wrong.append(seed)
    attempts = [t["attempts"] for t in ends.values()]
    log.info("%d kills, %d jobs, attempts %s", POINTS, len(seeds), attempts)
    assert (lost, doubled, wrong) == ([], [], [])
    assert max(attempts) > 1
    # What is saved is gone from the storage.
    until(lambda: not list((Path(server.data) / "storage").glob("*/jobs/*")))


def test_workers_end_when_their_server_does_not_come_back(nodes, serve):
    others = pids(nodes)
    server, call = serve("--workers", "1", "--idle-minutes", "0.05")
    assert call.end(call.i2v(1))["status"] == COMPLETED
    own = pids(nodes) - others
    time.sleep(4)  # longer than it may be idle without a server
    assert len(own) == 1 and own <= pids(nodes)
    server.kill()
    until(lambda: not own & pids(nodes))
