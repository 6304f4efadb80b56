"""The order in which jobs begin."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wan_local.wan.service.executor import Job
from wan_local.wan.service.queue import FairQueue


def job(name, key="a", priority=0):
    return Job(name, "infsh/wan2-1-i2v", {}, Path(), key, priority)


def queue_of(*jobs):
    queue = FairQueue()
    for one in jobs:
        queue.add(one)
    return queue


def names(queue):
    return "".join(one.task_id for one in queue.order())


def test_first_come_first_served_within_a_key():
    queue = queue_of(job("1"), job("2"), job("3"))
    assert names(queue) == "123" and queue.pop().task_id == "1" and names(queue) == "23"


def test_keys_take_turns():
    queue = queue_of(*(job(n, "a") for n in "1234"), *(job(n, "b") for n in "56"), job("7", "c"))
    assert names(queue) == "1572634"


def test_higher_priorities_come_first_whoever_asks():
    queue = queue_of(job("1"), job("2", "b", -1), job("3", "a", 5), job("4", "a", 5))
    assert names(queue) == "3412"


def test_the_key_with_the_fewest_running_jobs_is_next():
    queue = queue_of(job("1", "a"), job("2", "a"), job("3", "b"))
    queue.take("3")
    queue.add(job("4", "b"))
    queue.add(job("5", "b"))
    assert names(queue) == "1425"
    queue.pop()
    queue.pop()
    queue.done("3")
    queue.done("4")
    assert names(queue) == "52"  # a runs one, b none


def test_of_idle_keys_the_one_served_longest_ago_is_next():
    queue = queue_of(job("1", "a"), job("2", "b"))
    for name in "12":
        queue.take(name)
        queue.done(name)
    queue.add(job("3", "b"))
    queue.add(job("4", "a"))
    assert names(queue) == "43"


def test_a_job_that_comes_back_has_its_old_place():
    queue = queue_of(job("1"), job("2"))
    lost = queue.pop()
    queue.add(job("3"))
    queue.add(lost)
    assert names(queue) == "123"
    queue.pop()
    queue.done("1")
    queue.add(job("1"))
    assert names(queue) == "231"


def test_a_removed_job_is_gone():
    queue = queue_of(job("1"), job("2"))
    assert queue.remove("1").task_id == "1" and queue.remove("1") is None
    assert names(queue) == "2" and "1" not in queue and len(queue) == 1
    with pytest.raises(KeyError):
        queue.take("1")


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["add", "pop", "done", "back", "remove"]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=60,
)


@given(ACTS)
def test_what_is_shown_is_what_happens_and_nothing_is_lost(acts):
    """While all that begins runs on, the jobs begin in the order that was shown."""
    queue, waiting, running, count = FairQueue(), {}, {}, 0
    for act, key, priority in acts:
        if act == "add":
            count += 1
            waiting[str(count)] = one = job(str(count), str(key), priority)
            queue.add(one)
        elif act == "pop" and waiting:
            one = queue.pop()
            running[one.task_id] = waiting.pop(one.task_id)
        elif act in ("done", "back") and running:
            task_id, one = running.popitem()
            if act == "done":
                queue.done(task_id)
            else:
                waiting[task_id] = one
                queue.add(one)
        elif act == "remove" and waiting:
            task_id, _ = waiting.popitem()
            queue.remove(task_id)
    shown = [one.task_id for one in queue.order()]
    assert sorted(shown) == sorted(waiting) and len(queue) == len(waiting)
    assert [queue.pop().task_id for _ in shown] == shown and queue.pop() is None
