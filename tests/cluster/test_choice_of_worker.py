"""Which worker gets which job."""

from pathlib import Path

from wan_local.wan.cluster.placement import Worker, given, model_key, place
from wan_local.wan.service.executor import Job

I2V, ANIMATE = "wan2-1-i2v", "wan-2-2-animate-v2v"


def job(name, app=I2V, **values):
    return Job(name, f"infsh/{app}", values, Path())


def plan(jobs, workers, room=0, most=None):
    found = place(jobs, workers, room, most, "tiny")
    return {one.task_id: name for one, name in found.begins}, found.starts


def holding(name, app=I2V, **values):
    return Worker(name, app=app, key=model_key(app, values, "tiny"))


def test_the_worker_that_holds_everything_comes_first():
    workers = [Worker("new"), holding("plain"), holding("lora", lora_file="a.safetensors")]
    assert plan([job("1", lora_file="a.safetensors")], workers, 5) == ({"1": "lora"}, 0)
    assert plan([job("1")], workers, 5) == ({"1": "plain"}, 0)


def test_then_one_with_the_apps_model_then_an_empty_one():
    workers = [Worker("empty"), holding("other", ANIMATE), holding("lora", lora_file="a")]
    assert plan([job("1")], workers, 5) == ({"1": "lora"}, 0)
    assert plan([job("1")], workers[:2], 5) == ({"1": "empty"}, 0)


def test_then_a_new_one_and_only_then_any():
    workers = [holding("other", ANIMATE)]
    assert plan([job("1")], workers, room=1) == ({}, 1)
    assert plan([job("1")], workers, room=0) == ({"1": "other"}, 0)
    assert plan([job("1")], workers, room=1, most=1) == ({"1": "other"}, 0)


def test_busy_and_starting_workers_get_nothing():
    workers = [given(holding("busy"), job("0"), "tiny"), Worker("coming", is_up=False)]
    assert plan([job("1")], workers) == ({}, 0)


def test_no_more_are_started_than_jobs_wait():
    coming = Worker("coming", is_up=False)
    assert plan([job("1"), job("2")], [coming], room=9) == ({}, 1)
    assert plan([job("1")], [coming], room=9) == ({}, 0)
    assert plan([job(n) for n in "123"], [], room=2) == ({}, 2)
    assert plan([job(n) for n in "123"], [coming], room=9, most=2) == ({}, 1)


def test_one_that_waits_for_a_start_holds_up_nobody():
    workers = [Worker("coming", is_up=False), holding("warm", ANIMATE)]
    assert plan([job("1"), job("2", ANIMATE)], workers) == ({"2": "warm"}, 0)


def test_no_job_goes_where_its_weights_are_not():
    bare = Worker("bare", lacks={I2V: "no transformer"})
    assert plan([job("1")], [bare]) == ({}, 0)
    assert plan([job("1"), job("2", ANIMATE)], [bare]) == ({"2": "bare"}, 0)


def test_each_worker_gets_one_job_and_earlier_jobs_choose_first():
    workers = [Worker("a"), Worker("b")]
    assert plan([job("1"), job("2"), job("3")], workers) == ({"1": "a", "2": "b"}, 0)
