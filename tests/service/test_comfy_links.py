"""Uploads in ComfyUI's input folder: there while a job needs them, and under our names only."""

from pathlib import Path

import pytest
from wan_local.nodes.service import links as module
from wan_local.nodes.service.links import InputLinks

UPLOAD = "file_" + 32 * "a" + ".png"
TASKS = ["task_" + 32 * digit for digit in "12"]


@pytest.fixture
def folder(stand_in):
    return stand_in.base / "input" / "infsh"


@pytest.fixture(params=["link", "copy"])
def upload(request, tmp_path, monkeypatch):
    if request.param == "copy":

        def refuse(*_):
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(module.os, "link", refuse)
    path = tmp_path / UPLOAD
    path.write_bytes(b"pixels")
    return path


def test_two_jobs_share_a_file_until_both_have_ended(folder, upload):
    links = InputLinks()
    names = {links.add(task, "input_image", upload) for task in TASKS}
    assert names == {f"infsh/{UPLOAD}"}
    links.release(TASKS[0])
    assert (folder / UPLOAD).read_bytes() == b"pixels"
    links.release(TASKS[1])
    assert not (folder / UPLOAD).exists() and upload.read_bytes() == b"pixels"


def test_a_file_of_another_name_gets_one_of_ours(folder, tmp_path):
    links = InputLinks()
    for name in ("../../odd name.png", "x.p/ng"):
        source = tmp_path / Path(name).name
        source.write_bytes(b"1")
        made = links.add(TASKS[0], "end_frame", source)
        assert made.startswith(f"infsh/{TASKS[0]}-end_frame")
    links.release(TASKS[0])
    assert not list(folder.glob("task_*"))


def test_what_a_killed_server_left_is_removed_and_nothing_else(folder):
    folder.mkdir(parents=True, exist_ok=True)
    others = {path.name for path in folder.iterdir()}  # of other tests on this host
    for name in (UPLOAD, f"{TASKS[0]}-input_image.png", "holiday.png", "file_1.png"):
        (folder / name).write_bytes(b"1")
    InputLinks().clear()
    assert {path.name for path in folder.iterdir()} == others | {"holiday.png", "file_1.png"}
    for name in ("holiday.png", "file_1.png"):
        (folder / name).unlink()
