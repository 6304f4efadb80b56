"""A worker that is quick has its next job in its hands while one runs."""

import asyncio
import time
from pathlib import Path

import pytest
from serve_process import ASSETS, SMALL
from wan_local.wan.cluster.actor import WorkerActor
from wan_local.wan.cluster.messages import Messages
from wan_local.wan.cluster.options import WorkerOptions
from wan_local.wan.cluster.placement import Worker, given, model_key, place
from wan_local.wan.cluster.storage import Storage
from wan_local.wan.engine import Engine
from wan_local.wan.params import APPS, validate
from wan_local.wan.service.executor import Job
from wan_local.wan.tiny import MINIMUMS

I2V = "wan2-1-i2v"


def job(name, app=I2V, **values):
    return Job(name, f"infsh/{app}", values, Path())


def busy(name, quick=True, **values):
    key = model_key(I2V, values, "tiny")
    return Worker(name, app=I2V, key=key, task_id=f"of {name}", is_quick=quick)


def begins(jobs, workers, room=0):
    plan = place(jobs, workers, room, None, "tiny")
    return {one.task_id: name for one, name in plan.begins}


def test_a_quick_worker_gets_one_more_job_if_nothing_is_free():
    assert begins([job("1"), job("2")], [busy("a")]) == {"1": "a"}
    assert begins([job("1")], [busy("a", quick=False)]) == {}
    assert begins([job("1")], [busy("a"), Worker("free")]) == {"1": "free"}
    assert begins([job("1")], [busy("a")], room=1) == {}
    held = given(busy("a"), job("1"), "tiny")
    assert (held.task_id, held.next_id) == ("of a", "1")
    assert given(held, job("1"), "tiny") == held
    assert begins([job("2")], [held]) == {}


def test_it_gets_only_what_it_holds_the_models_of():
    assert begins([job("1", lora_file="a")], [busy("a"), busy("b", lora_file="a")]) == {"1": "b"}
    assert begins([job("1", "wan-2-2-animate-v2v"), job("2")], [busy("a")]) == {"2": "a"}


@pytest.fixture
def orders(tmp_path, tiny):
    """An actor without Ray, and what makes orders for it."""
    storage = Storage.open(str(tmp_path / "storage"))
    picture = storage.put_input(ASSETS / "sample.png")
    actor = WorkerActor(WorkerOptions(str(tmp_path / "storage"), Engine("tiny", "cpu"), 60.0))

    def order(task_id, **values):
        widened = APPS[I2V].widened(MINIMUMS)
        checked = validate(widened, {**SMALL, "input_image": str(ASSETS / "sample.png"), **values})
        del checked["input_image"]
        return {
            "task_id": task_id,
            "attempt": storage.begin(task_id, {}),
            "app": I2V,
            "key": "",
            "values": checked,
            "files": {"input_image": picture},
        }

    return actor, storage, order


async def hear(actor, until):
    """All messages, up to the end of a job."""
    heard = []
    end = time.monotonic() + 60
    while not any(said["kind"] == "ended" and said["task_id"] == until for said in heard):
        assert time.monotonic() < end, heard
        heard += await actor.news(heard[-1]["number"] if heard else 0, 5.0)
    return heard


def test_the_next_job_follows_at_once(orders):
    actor, storage, order = orders

    async def check():
        first, second, third = order("a"), order("b"), order("c")
        assert await actor.begin(first)
        said = await actor.news(0, 5.0)
        assert await actor.begin(second)
        assert (await actor.news(0, 0.0))[0] == said[0]
        assert not await actor.begin(third)
        state = await actor.state()
        assert (state["task_id"], state["next_id"]) == ("a", "b")
        heard = await hear(actor, "b")
        ends = [said for said in heard if said["kind"] == "ended"]
        assert [end["task_id"] for end in ends] == ["a", "b"]
        assert all(end["status"] == 10 and 0 < end["took"] < 60 for end in ends), ends
        assert storage.outcome("a") and storage.outcome("b")
        # What comes once more was done, and is not done again.
        assert await actor.begin(first) and await actor.begin(second)
        assert (await actor.state())["task_id"] == ""
        # The end of the first is told again to a driver that knows nothing.
        assert [s["task_id"] for s in await actor.news(0, 0.0) if s["kind"] == "ended"] == [
            "a",
            "b",
        ]
        assert await actor.begin(third)
        # That of the second is, too: it may have come while the third was on its way.
        assert {said["task_id"] for said in await hear(actor, "c")} == {"b", "c"}

    asyncio.run(check())


def test_it_can_be_taken_back_before_it_begins(orders):
    actor, storage, order = orders

    async def check():
        first, second = order("a", num_inference_steps=100), order("b")
        assert await actor.begin(first) and await actor.begin(second)
        assert await actor.give_back("a") == 0
        assert await actor.give_back("b") == 1
        assert await actor.give_back("b") == 0
        await actor.cancel("a")
        heard = await hear(actor, "a")
        assert heard[-1]["status"] == 12
        assert (await actor.state())["task_id"] == "" and storage.outcome("b") is None

    asyncio.run(check())


def test_nothing_follows_what_broke_the_models(orders, monkeypatch):
    actor, _, order = orders

    async def check():
        assert await actor.begin(order("a"))
        await hear(actor, "a")

        def fails(*_, **__):
            time.sleep(0.2)
            raise RuntimeError("nobody foresaw this")

        monkeypatch.setattr(actor._runner, "_make", fails)
        assert await actor.begin(order("b")) and await actor.begin(order("c"))
        assert (await hear(actor, "b"))[-1]["is_broken"]
        await asyncio.sleep(0.3)
        assert [s["task_id"] for s in await actor.news(0, 0.0)] == ["b"]
        assert not await actor.begin(order("d"))

    asyncio.run(check())


def test_a_job_that_comes_with_the_end_of_another_runs_once(orders, monkeypatch):
    actor, _, order = orders
    add = Messages.add

    def slowly(self, kind, facts):
        add(self, kind, facts)
        if kind == "ended":
            time.sleep(0.1)

    monkeypatch.setattr(Messages, "add", slowly)

    async def check():
        assert await actor.begin(order("a"))
        await hear(actor, "a")
        assert await actor.begin(order("b", num_inference_steps=100, num_frames=17))
        await hear(actor, "b")
        await asyncio.sleep(1)
        ends = [said["task_id"] for said in await actor.news(0, 0.0) if said["kind"] == "ended"]
        assert ends == ["a", "b"]

    asyncio.run(check())


def test_answers_follow_each_other_at_a_distance():
    async def check():
        messages = Messages()
        messages.use(asyncio.get_running_loop())
        loop, number, answers = asyncio.get_running_loop(), 0, []

        def work():
            for step in range(100):
                messages.add("log", {"task_id": "a", "text": str(step)})
                time.sleep(0.003)
            messages.add("ended", {"task_id": "a"})

        done = loop.run_in_executor(None, work)
        while not answers or answers[-1][-1]["kind"] != "ended":
            answers.append(await messages.after(number, 10.0, 0.05))
            number = answers[-1][-1]["number"]
        await done
        assert [said["number"] for answer in answers for said in answer] == list(range(1, 102))
        assert 2 < len(answers) < 30

    asyncio.run(check())
