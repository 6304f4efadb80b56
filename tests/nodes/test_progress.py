"""The line under a node, and how long things are said to take."""

import pytest
from wan_local.nodes import host_progress
from wan_local.wan.pace import Pace, short_time


class Clock:
    """Moves on when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(host_progress.time, "monotonic", clock)
    return clock


@pytest.fixture
def lines(monkeypatch):
    """What the page is sent."""
    sent = []

    class Server:
        def send_progress_text(self, text, node_id):
            assert node_id == "7"
            sent.append(text)

    monkeypatch.setattr(host_progress, "_server", Server)
    return sent


@pytest.fixture
def reporter(clock, lines):
    class Node:
        class hidden:  # noqa: N801 - as the host calls it
            unique_id = "7"

    return host_progress.NodeReporter(Node, {"sample": 1, "decode": 1})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (41.4, "41 s"), (1560, "26 min"), (9000, "2.5 h")],
)
def test_times_are_short(seconds, said):
    assert short_time(seconds) == said


def test_the_pace_is_that_of_the_items_so_far():
    clock = Clock()
    pace = Pace(clock)
    assert pace.describe("step", 20) == ""
    clock.now += 41
    pace.finish(1)
    assert pace.describe("step", 38) == "41 s a step, about 26 min left"
    clock.now += 20
    pace.finish(2)
    assert pace.describe("step", 0) == "30 s a step"
    pace.begin()
    assert pace.describe("step", 1).startswith("30 s")  # until it knows better


def test_sampling_tells_step_pace_and_rest(reporter, clock, lines):
    reporter.start("sample", 20)
    for done in (1, 2):
        clock.now += 41
        reporter.update(done)
    assert lines[-1] == "step 2 of 20, 41 s a step, about 12 min left"


def test_cheap_items_do_not_flood_the_page(reporter, clock, lines):
    reporter.start("decode", 1000)
    for done in range(1, 1000):
        clock.now += 0.01
        reporter.update(done)
    assert 20 < len(lines) < 40
    assert lines[-1] == "decode: 991 of 1000, about 0.1 s left"


def test_the_last_note_is_what_stays(reporter, clock, lines):
    reporter.note("2 frames show nobody: 3, 7")
    reporter.start("decode", 2)
    for done in (1, 2):
        clock.now += 5
        reporter.update(done)
    assert lines[-2].startswith("decode: 1 of 2") and lines[-1] == "2 frames show nobody: 3, 7"


def test_a_stage_that_tells_more_is_left_to_it(reporter, clock, lines):
    reporter.start("sample", 20)
    reporter.status("clip 2 of 5, step 3 of 20")
    clock.now += 41
    reporter.update(4)
    assert lines == ["clip 2 of 5, step 3 of 20"]


@pytest.mark.parametrize("begun", [("sample", "decode"), ("decode",)], ids=["both", "the last"])
def test_the_bar_is_full_at_the_end_of_the_last_phase(monkeypatch, begun):
    """Also where there was nothing to do before it: hosts may leave out what is not the end."""
    values = []

    class Bar:
        def __init__(self, total, node_id=None):
            pass

        def update_absolute(self, value, total, preview=None):
            values.append(value / total)

    monkeypatch.setattr(host_progress, "ProgressBar", Bar)
    reporter = host_progress.NodeReporter(
        type("Node", (), {"hidden": None}), {"sample": 3, "decode": 1}
    )
    for name in begun:
        reporter.start(name, 2)
        reporter.start(name, 2)  # once more, with less memory
        for done in (1, 2):
            reporter.update(done)
    assert values == sorted(values) and values[-1] == 1
