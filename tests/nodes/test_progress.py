"""The line under a node, and how long things are said to take."""

from threading import Event, current_thread, main_thread

import latent_preview
import pytest
import torch
from comfy.latent_formats import Wan21
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


class Slow(latent_preview.Latent2RGBPreviewer):
    """Makes each picture only when it is let go on."""

    def __init__(self):
        super().__init__(Wan21.latent_rgb_factors, Wan21.latent_rgb_factors_bias)
        self.go, self.threads = Event(), []

    def decode_latent_to_preview_image(self, preview_format, x0):
        assert self.go.wait(timeout=20), "the loop waits for the picture"
        self.threads.append(current_thread())
        return super().decode_latent_to_preview_image(preview_format, x0)


class Pictures:
    """A reporter of 3 steps, its previewer, and what its bar was told."""

    def __init__(self, monkeypatch, previewer):
        self.told, self.previewer = [], previewer
        monkeypatch.setattr(latent_preview, "get_previewer", lambda *_: previewer)
        monkeypatch.setattr(host_progress, "ProgressBar", lambda total, node_id=None: self)
        node = type("Node", (), {"hidden": None})
        self.reporter = host_progress.NodeReporter(node, {"sample": 1})
        self.reporter.start("sample", 3)

    def update_absolute(self, value, total, preview=None):
        assert current_thread() is main_thread()
        self.told.append((value, preview is not None))

    def step(self, done):
        self.reporter.update(done, lambda: torch.full((1, 16, 1, 4, 4), float(done)))


def test_a_step_does_not_wait_for_its_picture(monkeypatch):
    pictures = Pictures(monkeypatch, Slow())
    pictures.step(1)
    pictures.reporter.check_cancelled()
    assert pictures.told == [(333, False)]  # it is still being made
    pictures.previewer.go.set()
    pictures.step(2)
    pictures.step(3)  # the last one's picture is there when its step is
    shown = [value for value, has_picture in pictures.told if has_picture]
    assert shown == [333, 667, 1000]
    assert main_thread() not in pictures.previewer.threads


def test_a_previewer_of_another_pack_is_called_where_it_expects_it(monkeypatch):
    class Other:
        def decode_latent_to_preview_image(self, preview_format, x0):
            assert current_thread() is main_thread()
            return preview_format, None, 512

    pictures = Pictures(monkeypatch, Other())
    for done in (1, 2, 3):
        pictures.step(done)
    assert [value for value, has_picture in pictures.told if has_picture] == [333, 667, 1000]


def test_a_previewer_that_fails_is_heard_of(monkeypatch):
    class Broken(Slow):
        def decode_latent_to_preview_image(self, preview_format, x0):
            raise ValueError("no colours")

    pictures = Pictures(monkeypatch, Broken())
    with pytest.raises(ValueError, match="no colours"):
        for done in (1, 2):
            pictures.step(done)
