"""The storage on real file systems of fsspec: a folder, one below another, one in memory, and an
object store."""

import json
import os
import threading
import time

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from wan_local.wan.cluster.clips import StoredClips
from wan_local.wan.cluster.storage import Storage
from wan_local.wan.errors import InputError, OutputError, UnavailableError


def folder_storage(path):
    return Storage.open(str(path))


def url_storage(path):
    return Storage.open(f"file://{path}")


def nested_storage(path):
    path.mkdir()
    return Storage(DirFileSystem(str(path), LocalFileSystem()), "root")


def memory_storage(path):
    return Storage(fsspec.filesystem("memory"), f"/{path.name}{time.monotonic_ns()}")


def object_storage(path):
    return Storage.open(f"s3://wan/storage{time.monotonic_ns()}")


FOLDERS = [folder_storage, url_storage, nested_storage, memory_storage]


@pytest.fixture(params=[*FOLDERS, object_storage])
def storage(request, tmp_path):
    if request.param is object_storage:
        request.getfixturevalue("object_store")
    return request.param(tmp_path / "storage")


def test_what_is_written_is_read(storage):
    storage.check()
    assert storage.read("a/b") is None and storage.names("a") == []
    storage.write("a/b", b"one")
    storage.write("a/b", b"two")
    assert storage.read("a/b") == b"two" and storage.names("a") == ["b"]
    storage.delete("a")
    storage.delete("a")
    assert storage.read("a/b") is None


def test_files_go_there_and_back(storage, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(3_000_000))
    storage.put("x/y.bin", source)
    storage.fetch("x/y.bin", tmp_path / "deep" / "target.bin")
    assert (tmp_path / "deep" / "target.bin").read_bytes() == source.read_bytes()
    assert storage.walk("x") == ["y.bin"]
    opened = storage.open_input("x/y.bin", tmp_path / "own")
    assert opened.read_bytes() == source.read_bytes()
    with pytest.raises(FileNotFoundError):
        storage.open_input("x/none", tmp_path / "own")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["target.bin"]


def test_of_many_who_create_one_succeeds(storage):
    won, barrier = [], threading.Barrier(8)

    def work(number):
        barrier.wait()
        if storage.create("claim", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if storage.is_local:  # others are as exclusive as their server makes them
        assert len(won) == 1 and storage.read("claim") == str(won[0]).encode()
    assert not storage.create("claim", b"late") and storage.read("claim") != b"late"


def test_an_input_is_kept_once_by_its_content(storage, tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path, data in zip(paths, (b"same", b"same", b"other"), strict=True):
        path.write_bytes(data)
    names = [storage.put_input(path) for path in paths]
    assert names[0] == names[1] != names[2] and names[0].endswith(".png")
    assert len(storage.walk("inputs")) == 2


def test_old_inputs_go_but_none_that_is_used(tmp_path):
    storage = folder_storage(tmp_path / "storage")
    names = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        path.write_bytes(bytes([number]))
        names.append(storage.put_input(path))
    for name in names[:2]:
        old = time.time() - 1000
        os.utime(tmp_path / "storage" / name, (old, old))
    storage.forget_inputs([names[1]], 500)
    assert [storage.read(name) for name in names] == [None, b"\1", b"\2"]


def test_attempts_are_counted_and_a_job_ends_once(storage):
    assert storage.attempts("t") == [] and storage.outcome("t") is None
    assert [storage.begin("t", {"worker": "w"}) for _ in range(3)] == [1, 2, 3]
    assert storage.attempts("t") == [1, 2, 3]
    assert storage.claim("t", {"status": 10, "attempt": 2})
    assert not storage.claim("t", {"status": 11, "attempt": 3})
    assert storage.outcome("t") == {"status": 10, "attempt": 2}


def test_half_an_outcome_is_none(tmp_path):
    storage = folder_storage(tmp_path)
    storage.write("jobs/t/outcome.json", json.dumps({"status": 10})[:-3].encode())
    assert storage.outcome("t") is None


def test_a_place_without_hard_links_is_exclusive_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    storage = folder_storage(tmp_path)
    assert storage.create("claim", b"1") and not storage.create("claim", b"2")
    assert storage.read("claim") == b"1" and [p.name for p in tmp_path.iterdir()] == ["claim"]


def test_clips_of_earlier_attempts_come_back(storage, tmp_path):
    def attempt(number):
        notes = []
        folder = tmp_path / f"attempt{number}"
        storage.begin("t", {})
        clips = StoredClips(storage, "t", number, notes.append)
        clips.restore(folder)
        return clips, folder, notes

    clips, folder, _ = attempt(1)
    for name in ("key/run.json", "key/clip-0000"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        clips.saved(path)
    clips, folder, _ = attempt(2)
    assert (folder / "key" / "clip-0000").read_text() == "key/clip-0000"
    (folder / "key" / "clip-0001").write_text("second")
    clips.saved(folder / "key" / "clip-0001")
    clips, folder, notes = attempt(3)
    found = sorted(path.name for path in (folder / "key").iterdir())
    assert found == ["clip-0000", "clip-0001", "run.json"]
    clips.saved(folder / "key" / "none")  # cannot be copied: told, and the job goes on
    assert len(notes) == 1 and "none" in notes[0]


def test_memory_is_refused_as_no_two_processes_share_it():
    with pytest.raises(InputError, match="memory of one process"):
        Storage.open("memory://x")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InputError, match="nonsense"):
        Storage.open("nonsense://x")


def test_a_protocol_without_its_package_names_it(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UnavailableError, match="s3fs"):
        Storage.open("s3://bucket")


def test_a_storage_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        Storage.open(str(tmp_path / "file" / "below")).check()
