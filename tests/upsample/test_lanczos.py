"""Lanczos: bit for bit what Pillow makes, in any number of threads."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from wan_local.wan.errors import Cancelled, GeometryError, InputError
from wan_local.wan.progress import Silent
from wan_local.wan.upsample.lanczos import resize, resize_each, resized_size

A26 = [[0, 64, 128, 192], [32, 96, 160, 224], [64, 128, 192, 255], [16, 80, 144, 208]]


class Watch(Silent):
    def __init__(self, stop_at=None):
        self.notes, self.steps, self.stop_at = [], [], stop_at

    def start(self, phase, total):
        self.total = total

    def update(self, done, preview=None):
        self.steps.append(done)
        if done == self.stop_at:
            raise Cancelled

    def note(self, text):
        self.notes.append(text)


def pillow(frame, width, height):
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def random_frames(count, height, width, channels=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, channels), np.uint8)


def test_a26_numbers():
    frame = torch.tensor(A26, dtype=torch.uint8).view(1, 4, 4, 1).repeat(1, 1, 1, 3)
    result = resize(frame, 1.5, Silent())
    assert result.shape == (1, 6, 6, 3) and result.dtype == torch.uint8
    assert result[0, 0, :, 1].tolist() == [0, 22, 74, 114, 166, 194]
    assert result[0, -1, :, 2].tolist() == [7, 35, 87, 127, 179, 207]


@pytest.mark.parametrize(
    ("width", "height", "factor", "expected"),
    [
        (832, 480, 1.5, (1248, 720)),
        (1280, 720, 1.5, (1920, 1080)),
        (624, 624, 1.5, (936, 936)),
        (832, 480, 2, (1664, 960)),
        (33, 7, 1.5, (49, 10)),
        (10, 10, 0.01, (1, 1)),
        (100, 50, 0.29, (28, 14)),
    ],
)
def test_a26_sizes_are_cut_off_and_never_zero(width, height, factor, expected):
    assert resized_size(width, height, factor) == expected


@settings(max_examples=60)
@given(
    count=st.integers(1, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    factor=st.floats(0.05, 4),
    threads=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_it_is_pillow_bit_for_bit(count, height, width, factor, threads, seed):
    frames = random_frames(count, height, width, seed=seed)
    size = max(1, int(width * factor)), max(1, int(height * factor))
    expected = np.stack([pillow(frame, *size) for frame in frames])
    assert (resize(torch.from_numpy(frames), factor, Silent(), threads).numpy() == expected).all()
    # 8 bits as floating point and back are the same 8 bits.
    image = torch.from_numpy(frames).float() / 255
    result = resize(image, factor, Silent(), threads)
    assert result.dtype == torch.float32
    assert (result == torch.from_numpy(expected).float() / 255).all()
    each = torch.cat(list(resize_each(torch.from_numpy(frames), factor, Silent(), threads)))
    assert (each.numpy() == expected).all()


def test_floats_are_rounded_and_clamped_not_truncated():
    image = torch.tensor([-1.0, 0.4, 0.6, 254.4, 254.6, 300.0]).div(255).view(6, 1, 1, 1)
    result = resize(image.repeat(1, 1, 1, 3), 1, Silent())
    assert (result[:, 0, 0, 0] * 255).round().tolist() == [0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_keep_their_type(dtype):
    frames = random_frames(2, 6, 8)
    result = resize(torch.from_numpy(frames).to(dtype) / 255, 2, Silent())
    assert result.dtype == dtype and result.shape == (2, 12, 16, 3)
    expected = torch.from_numpy(np.stack([pillow(frame, 16, 12) for frame in frames])) / 255
    # bfloat16 has eight bits, so it moves colours before they are filtered.
    assert (result.float() - expected).abs().max() < 0.02


def test_the_frames_given_are_left_as_they_are():
    frames = torch.from_numpy(random_frames(3, 8, 8)).float() / 255
    before = frames.clone()
    resize(frames, 2, Silent())
    assert (frames == before).all()


def test_progress_counts_frames_in_order_and_the_order_is_kept():
    frames = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 9, 7, 3)
    watch = Watch()
    result = resize(frames, 2, watch, threads=4)
    assert watch.total == 20 and watch.steps == list(range(1, 21))
    assert result[:, 0, 0, 0].tolist() == list(range(20))


def test_cancelling_stops_the_threads():
    frames = torch.zeros(200, 64, 64, 3)
    with pytest.raises(Cancelled):
        resize(frames, 2, Watch(stop_at=5), threads=3)
    assert not [t for t in threading.enumerate() if t.name.startswith("lanczos")]


def test_leaving_the_frames_early_stops_the_threads():
    watch = Watch()
    each = resize_each(torch.zeros(200, 64, 64, 3), 2, watch, threads=3)
    next(each)
    each.close()
    assert len(watch.steps) == 1
    assert not [t for t in threading.enumerate() if t.name.startswith("lanczos")]


def test_streaming_works_only_a_few_frames_ahead():
    class Counted(torch.Tensor):
        asked = 0

        def __getitem__(self, index):
            if isinstance(index, int):
                Counted.asked = max(Counted.asked, index + 1)
            return super().__getitem__(index)

    frames = torch.zeros(100, 4, 4, 3, dtype=torch.uint8).as_subclass(Counted)
    each = resize_each(frames, 2, Silent(), threads=2)
    next(each)
    assert Counted.asked <= 5
    each.close()


def test_alpha_is_left_out_with_a_note():
    frames, watch = random_frames(2, 6, 5, channels=4), Watch()
    result = resize(torch.from_numpy(frames), 2, watch)
    assert (result.numpy()[1] == pillow(np.ascontiguousarray(frames[1, ..., :3]), 10, 12)).all()
    assert watch.notes == ["The frames have an alpha channel; it is dropped."]


def test_nan_pixels_become_black_and_are_named():
    frames = torch.full((9, 4, 4, 3), 0.5)
    frames[2, 1, 1, 0] = frames[7, 0, 0] = float("nan")
    watch = Watch()
    result = resize(frames, 1, watch)
    assert result[2, 1, 1].tolist() == result[7, 0, 0].tolist() == [0, 0, 0]
    assert not result.isnan().any() and (result[0] > 0.49).all()
    (note,) = watch.notes
    assert "frame 2, 7 held" in note and "2 in all" in note and "black" in note


def test_much_memory_is_told(monkeypatch):
    from wan_local.wan.upsample import frames as module

    monkeypatch.setattr(module, "MUCH_MEMORY", 1000)
    watch = Watch()
    resize(torch.zeros(10, 8, 8, 3, dtype=torch.uint8), 1, watch)
    assert watch.notes == ["10 frames of 8x8 take 0.0 GB of memory."]


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(4, 4, 3),
        torch.zeros(0, 4, 4, 3),
        torch.zeros(1, 4, 4, 1),
        torch.zeros(1, 4, 4, 3, dtype=torch.int32),
    ],
)
def test_what_are_no_frames_is_refused_in_words(frames):
    with pytest.raises(GeometryError, match="were given"):
        resize(frames, 2, Silent())


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), 1e6])
def test_a_factor_without_a_size_is_refused(factor):
    with pytest.raises(InputError):
        resize(torch.zeros(1, 4, 4, 3), factor, Silent())
