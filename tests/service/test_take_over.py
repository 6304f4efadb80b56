"""Executors that lose jobs and try again, and such whose jobs outlive the server."""

import asyncio
import threading
from typing import ClassVar

import pytest
from scripted_executor import ScriptedExecutor
from wan_local.wan.service.executor import Outcome
from wan_local.wan.service.statuses import Status


class Keeper(ScriptedExecutor):
    """One whose jobs outlive the server, as those of a cluster do."""

    kept: ClassVar = {}
    lines = ("before",)

    async def submit(self, job):
        Keeper.kept[job.task_id] = job
        await super().submit(job)

    async def cancel(self, task_id):
        self.cancelled.append(task_id)  # it does not stop that soon

    async def adopt(self, job):
        if job.task_id not in self.kept:
            return False
        for line in self.lines:
            self.listener.log(job.task_id, line, mark=line)
        self.listener.status(job.task_id, Status.RUNNING)
        return True


@pytest.fixture
def keeping(monkeypatch, make_service):
    monkeypatch.setattr("running_service.ScriptedExecutor", Keeper)
    Keeper.kept, Keeper.lines = {}, ("before",)
    service = make_service()
    go_on, started = threading.Event(), threading.Event()

    async def script(job, tell):
        tell.log(job.task_id, "before", mark="before")
        started.set()
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return service.executor.completed(job)

    service.executor.script = script
    yield service, started
    go_on.set()


def test_a_running_job_is_followed_over_a_restart(keeping):
    service, started = keeping
    task = service.run()
    assert started.wait(10)
    old = service.executor
    Keeper.lines = ("before", "after")
    service.restart()
    job = Keeper.kept[task["id"]]
    assert service.executor is not old and service.executor.jobs == []
    service.executor.listener.ended(job.task_id, service.executor.completed(job))
    end = service.wait(task["id"])
    assert end["status"] == 10
    # Neither an event nor a line is doubled, though the executor told them again.
    assert [e["status"] for e in end["events"]] == [1, 2, 7, 10]
    assert [line["content"] for line in end["logs"]] == ["before", "after"]
    assert service.executor.forgotten == [task["id"]]


def test_a_cancel_goes_on_over_a_restart(keeping):
    service, started = keeping
    task = service.run()
    assert started.wait(10)
    service.data("POST", f"/tasks/{task['id']}/cancel")
    service.restart()
    assert service.executor.cancelled == [task["id"]]
    service.executor.listener.ended(task["id"], Outcome(Status.CANCELLED))
    assert service.wait(task["id"])["status"] == 12


def test_a_lost_attempt_is_seen_in_events_log_and_count(service):
    async def script(job, tell):
        if len(told) == 0:
            told.append(job)
            tell.progress(job.task_id, 0.5, "sample 1/2")
            tell.retried(job.task_id, "attempt 2 of 2: the worker died")
            tell.queue([job.task_id])
        tell.status(job.task_id, Status.RUNNING)
        return service.executor.completed(job)

    told = []
    service.executor.script = script
    end = service.wait(service.run()["id"])
    assert [e["status"] for e in end["events"]] == [1, 2, 7, 2, 7, 10]
    assert end["attempts"] == 2
    assert [line["content"] for line in end["logs"]] == ["attempt 2 of 2: the worker died"]


def test_a_task_that_is_being_cancelled_does_not_wait_again(service):
    async def script(job, tell):
        tell.status(job.task_id, Status.CANCELLING)
        tell.retried(job.task_id, "the worker died")
        return Outcome(Status.CANCELLED)

    service.executor.script = script
    end = service.wait(service.run()["id"])
    assert [e["status"] for e in end["events"]] == [1, 2, 7, 8, 12]


def test_the_executor_hears_key_and_priority(service):
    task = service.data("POST", "/apps/run", json={**service.i2v(), "metadata": {"priority": 7}})
    service.wait(task["id"])
    [job] = service.executor.jobs
    assert job.priority == 7 and job.key_id
