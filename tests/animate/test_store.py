"""Finished clips on disk: complete or not there, and there again after a crash."""

import os
import resource
import time
from contextlib import contextmanager

import pytest
import torch
from wan_local.wan.animate.store import (
    DiskClips,
    FinishedClip,
    MemoryClips,
    kept_clips,
    temporary_clips,
    to_store,
)
from wan_local.wan.decode.colour import Palette
from wan_local.wan.errors import OutputError
from wan_local.wan.progress import Silent


def clip(seed, count=20, palette=None):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (count, 6, 8, 3), dtype=torch.uint8, generator=generator)
    return FinishedClip(frames, torch.rand(1, 6, 8, 3, generator=generator), palette)


PALETTE = Palette(torch.rand(3).double(), torch.rand(3, 3).double())


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    if request.param == "memory":
        return MemoryClips()
    return DiskClips(tmp_path / "run", is_kept=True)


def test_frames_come_back_in_order_a_few_at_a_time(store):
    clips = [clip(0, palette=PALETTE), clip(1, 5), clip(2, 33)]
    for one in clips:
        store.add(one)
    pieces = list(store.frames())
    assert max(map(len, pieces)) == 16 and len(store) == 3
    assert torch.equal(torch.cat(pieces), torch.cat([one.frames for one in clips]))
    assert torch.equal(store.tail(), clips[-1].tail)
    assert torch.equal(store.palette().mean, PALETTE.mean)
    assert torch.equal(store.palette().covariance, PALETTE.covariance)
    store.discard()
    assert len(store) == 0 and list(store.frames()) == []


def test_no_palette_is_none(store):
    store.add(clip(0))
    assert store.palette() is None


def test_another_process_finds_the_clips(tmp_path):
    first, seed = kept_clips(tmp_path, "key", 7)
    first.add(clip(0))
    again, found = kept_clips(tmp_path, "key", 8)
    assert (seed, found, len(again)) == (7, 7, 1)
    assert torch.equal(again.tail(), clip(0).tail)
    other, found = kept_clips(tmp_path, "other", 8)
    assert (found, len(other)) == (8, 0)


def test_half_a_clip_and_clips_without_their_run_do_not_count(tmp_path):
    store, _ = kept_clips(tmp_path, "key", 7)
    store.add(clip(0))
    (store.folder / "clip-0001.partial").write_bytes(b"cut")
    assert len(kept_clips(tmp_path, "key", 8)[0]) == 1
    (store.folder / "run.json").unlink()
    store, seed = kept_clips(tmp_path, "key", 8)
    assert (seed, len(store)) == (8, 0)
    (store.folder / "run.json").write_text("{")
    assert kept_clips(tmp_path, "key", 9)[1] == 9


def test_runs_that_nobody_came_back_to_are_deleted(tmp_path):
    old, _ = kept_clips(tmp_path, "old", 1)
    old.add(clip(0))
    fresh, _ = kept_clips(tmp_path, "fresh", 1)
    long_ago = time.time() - 8 * 86_400
    for path in old.folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    kept_clips(tmp_path, "new", 1)
    assert not old.folder.exists() and fresh.folder.exists()


@contextmanager
def full_disk(most):
    """No file may become larger than `most` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_no_finished_clip(tmp_path):
    store, _ = kept_clips(tmp_path, "key", 7)
    store.add(clip(0))
    with full_disk(2000), pytest.raises(OutputError) as error:
        store.add(clip(1))
    assert "clip 2; the 1 finished before it are kept" in error.value.what
    assert "Free some space" in error.value.fix
    assert sorted(p.name for p in store.folder.iterdir()) == ["clip-0000.safetensors", "run.json"]
    again, seed = kept_clips(tmp_path, "key", 8)
    assert (seed, len(again)) == (7, 1)
    again.add(clip(1))
    assert len(again) == 2


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the folder"):
        kept_clips(tmp_path / "file", "key", 1)


def test_small_results_stay_in_memory_and_large_ones_do_not(tmp_path):
    assert isinstance(temporary_clips(1000, tmp_path), MemoryClips)
    large = temporary_clips(2_000_000_000, tmp_path)
    assert isinstance(large, DiskClips) and large.folder.parent == tmp_path


def test_frames_are_rounded_not_cut_off():
    levels = torch.arange(256).view(1, 1, 256, 1).expand(1, 1, 256, 3)
    exact = levels / 127.5 - 1
    assert torch.equal(to_store(exact, Silent()), levels.byte())
    assert torch.equal(to_store(exact + 0.4 / 127.5, Silent()), levels.byte())
    dark = torch.full((1, 1, 1, 3), -1.5)
    assert torch.equal(to_store(dark, Silent()), torch.zeros(1, 1, 1, 3).byte())
