import tracemalloc
from fractions import Fraction
from functools import partial

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from wan_local.wan.errors import Cancelled, GeometryError, InputError, MissingFileError
from wan_local.wan.media import resize
from wan_local.wan.media.resize import resize_by_area
from wan_local.wan.media.sound import Audio
from wan_local.wan.media.video import probe_video
from wan_local.wan.preprocess.video import (
    plan_frames,
    read_video,
    sampling_fps,
    select_frames,
)
from wan_local.wan.progress import Silent

GREY = 5
"""Levels between consecutive frames of the synthetic videos; no codec here is off by half of it."""


def grey_picture(number, width, height):
    return np.full((height, width, 3), 20 + GREY * number, np.uint8)


def write(path, pictures, rate=10, times=None, sound=None, codec="libx264", pixels="yuv420p"):
    """A video, with B-frames and a key frame every eight, of pictures shown at `times` (seconds)."""
    options = {"crf": "4", "g": "8", "bf": "2"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.pix_fmt = pixels
        stream.height, stream.width = pictures[0].shape[:2] if pictures else (48, 64)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        voice = None
        if sound is not None:
            voice = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        if pictures:
            container.mux(stream.encode(None))
        if voice is not None:
            frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux([*voice.encode(frame), *voice.encode(None)])
    return path


@pytest.fixture
def clip(tmp_path):
    """Writes count frames, the n-th of grey 20 + 5 n."""

    def make(count, rate=10, size=(64, 48), name="clip.mp4", **options):
        pictures = [grey_picture(number, *size) for number in range(count)]
        return write(tmp_path / name, pictures, rate, **options)

    return make


def numbers(video):
    """Which frames of a grey clip these are."""
    means = video.frames.float().mean((1, 2, 3))
    return ((means - 20) / GREY).round().int().tolist()


class Log(Silent):
    """Follows a run; cancels after `stop` updates."""

    def __init__(self, stop=None):
        self.stop, self.notes, self.updates, self.phases = stop, [], [], []

    def start(self, phase, total):
        self.phases.append((phase, total))

    def update(self, done, preview=None):
        self.updates.append(done)
        if done == self.stop:
            raise Cancelled

    def note(self, text):
        self.notes.append(text)


# Frame selection


@pytest.mark.parametrize(
    ("count", "source", "fps", "expected"),
    [
        (10, 30, 15, [0, 2, 4, 6, 8]),
        (10, 60, 30, [0, 2, 4, 6, 8]),
        (12, 24, 30, [0, 1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 10, 11]),
        (10, 30, 60, [0, 0, 1, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 7, 8, 8, 8, 9, 9]),
        (30, 30, 16, [0, 2, 4, 6, 8, 9, 11, 13, 15, 17, 19, 21, 22, 24, 26, 28]),
        (11, 30, 20, [0, 2, 3, 4, 6, 8, 9]),
        (7, 30, -1, [0, 1, 2, 3, 4, 5, 6]),
        (5, 30, 7, [0]),
    ],
)
def test_a1_frame_selection(count, source, fps, expected):
    assert plan_frames(count, source, fps) == tuple(expected)


@pytest.mark.parametrize(("count", "source", "fps"), [(29, 25, 25), (123, 30, 30), (61, 29.97, -1)])
def test_a2_the_own_rate_loses_no_frame(count, source, fps):
    assert plan_frames(count, source, fps) == tuple(range(count))


@pytest.mark.parametrize(
    ("count", "source", "fps", "expected"),
    [
        (4, Fraction(24000, 1001), Fraction(30000, 1001), 5),
        (18, Fraction(60000, 1001), Fraction(30000, 1001), 9),
        (11, 29.97, 59.94, 22),
    ],
)
def test_a2_noise_costs_no_frame_at_another_rate_either(count, source, fps, expected):
    assert int(count * float(fps) / float(source)) == expected - 1
    assert len(plan_frames(count, source, fps)) == expected


def test_a_clip_shorter_than_a_frame_gives_one_frame():
    assert plan_frames(3, 30, 5) == (0,)


@pytest.mark.parametrize("fps", [0, -2, -0.5, float("nan"), float("inf")])
def test_a2_wrong_rates_are_told(fps):
    for call in (plan_frames, select_frames):
        with pytest.raises(InputError, match="fps is") as error:
            call(torch.zeros(4, 8, 8, 3) if call is select_frames else 4, 30, fps)
        assert "-1" in error.value.fix


@pytest.mark.parametrize("source", [0, -1, float("inf")])
def test_sources_without_a_rate_are_told(source):
    with pytest.raises(InputError, match="own fps"):
        sampling_fps(source, 30)


def test_rates_are_the_fractions_that_they_mean():
    assert sampling_fps(29.97, -1) == Fraction(2997, 100)
    assert sampling_fps(30, Fraction(24000, 1001)) == Fraction(24000, 1001)


def test_no_frames_are_told():
    with pytest.raises(InputError, match="0 frames"):
        plan_frames(0, 30, 30)


rates = st.one_of(
    st.integers(1, 120),
    st.sampled_from([Fraction(24000, 1001), Fraction(30000, 1001), 29.97, 12.5]),
)


@given(st.integers(1, 300), rates, rates)
def test_selected_frames_are_in_order_in_bounds_and_keep_the_duration(count, source, fps):
    indices = plan_frames(count, source, fps)
    assert indices[0] == 0 and indices[-1] < count
    assert indices == tuple(sorted(indices))
    kept = len(indices) / Fraction(fps) - count / Fraction(source)
    assert len(indices) == 1 or -1 / Fraction(fps) < kept < Fraction(1, 1000)
    # Each is shown within half a frame of when it was recorded, unless the source is over.
    for i, index in enumerate(indices):
        assert abs(i / fps - index / source) <= 0.5001 / source or index == count - 1


@given(st.integers(1, 500), rates)
def test_frames_at_the_own_rate_come_once_each(count, source):
    assert plan_frames(count, source, -1) == plan_frames(count, source, source)
    assert plan_frames(count, source, -1) == tuple(range(count))


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 4))
def test_a_higher_rate_loses_no_frame(count, source, factor):
    assert set(plan_frames(count, source, source * factor)) >= set(range(count - 1))


# Facts


def test_facts_of_a_file(clip):
    facts = probe_video(clip(7, rate=Fraction(30000, 1001), size=(66, 48)))
    assert (facts.width, facts.height, facts.rotation) == (66, 48, 0)
    assert (facts.fps, facts.frames) == (Fraction(30000, 1001), 7)
    assert facts.duration == pytest.approx(7 * 1001 / 30000, abs=1e-3)
    assert not facts.has_audio and not facts.is_still


def test_a_wrong_rate_in_the_file_is_not_believed(clip):
    # It claims 60 and shows 10: the reference would look for frame 200 of these 40.
    path = clip(40, rate=60, times=[n / 10 for n in range(40)], name="clip.mkv", codec="ffv1")
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 60
    facts = probe_video(path)
    assert facts.frames == 40
    assert facts.duration == pytest.approx(4, abs=0.1)
    assert float(facts.fps) == pytest.approx(10, rel=0.03)
    video = read_video(path, 20)
    assert len(video.frames) == pytest.approx(80, abs=2)
    assert set(numbers(video)) == set(range(40))
    assert numbers(read_video(path, -1)) == list(range(40))


def test_a_stream_without_times_is_counted(clip):
    video = read_video(clip(9, name="clip.h264"), -1, offset=3)
    assert video.source_frames == 9 and numbers(video) == list(range(3, 9))
    assert numbers(read_video(clip(1, name="one.h264"), -1)) == [0]


def test_frames_that_the_file_hides_do_not_count(clip):
    # Phones and editors cut losslessly: the file keeps what comes before, and says not to show it.
    path = clip(20)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 4 + 4 + 4 + 4
    with av.open(str(path)) as container:
        frame = int(Fraction(1, 10) / container.streams.video[0].time_base)
    begin = int.from_bytes(data[at : at + 4], "big") + 3 * frame
    data[at : at + 4] = begin.to_bytes(4, "big")
    path.write_bytes(data)
    video = read_video(path, -1)
    assert video.source_frames == 17 and numbers(video) == list(range(3, 20))


def test_text_in_the_file_may_be_in_any_encoding(clip):
    path = clip(2)
    with av.open(str(path)) as source, av.open(str(path) + ".mp4", "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        copy.metadata["title"] = "ABCDEFGH"
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    renamed = path.with_name("clip.mp4.mp4")
    renamed.write_bytes(renamed.read_bytes().replace(b"ABCDEFGH", b"\xff\xfeCDEFGH"))
    assert numbers(read_video(renamed, -1)) == [0, 1]


def test_a_file_whose_clock_does_not_begin_at_zero(clip):
    path = clip(12, times=[5 + n / 10 for n in range(12)], name="clip.ts")
    assert probe_video(path).start > 4
    assert numbers(read_video(path, -1)) == list(range(12))


# Reading


@pytest.mark.parametrize("fps", [10, -1, 5, 16, 30])
def test_a32_frames_and_rate_are_those_selected(clip, fps):
    video = read_video(clip(20), fps)
    assert video.fps == (10 if fps == -1 else fps)
    assert video.indices == plan_frames(20, 10, fps)
    assert numbers(video) == list(video.indices)
    assert (video.source_fps, video.source_size, video.source_frames) == (10, (64, 48), 20)
    assert video.frames.dtype == torch.uint8 and video.frames.shape[1:] == (48, 64, 3)


def test_frames_of_variable_rate_are_counted_not_timed(clip):
    times = [0, 0.1, 0.15, 0.2, 0.6, 0.7, 0.9, 1.1, 1.2, 1.5]
    path = clip(10, times=times, name="clip.mkv", codec="ffv1")
    assert numbers(read_video(path, -1)) == list(range(10))
    facts = probe_video(path)
    video = read_video(path, facts.fps / 2)
    assert numbers(video) == list(plan_frames(10, facts.fps, facts.fps / 2))


@pytest.mark.parametrize("size", [(63, 47), (65, 48), (1, 1), (33, 100)])
def test_odd_sizes_are_read(tmp_path, size):
    pictures = np.random.default_rng(0).integers(0, 256, (3, size[1], size[0], 3), np.uint8)
    path = write(tmp_path / "odd.mkv", list(pictures), codec="ffv1", pixels="bgr0")
    video = read_video(path, -1)
    assert video.source_size == size
    assert np.array_equal(video.frames.numpy(), pictures)


def test_colours_are_red_green_blue(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :, 0], picture[:, :, 1] = 200, 100
    frames = read_video(write(tmp_path / "a.mp4", [picture]), -1).frames
    assert (frames[0].float().mean((0, 1)) - torch.tensor([200.0, 100, 0])).abs().max() < 6


def turned(path, matrix):
    """The same MP4 with another display matrix, (a, b, c, d) of the track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("matrix", "degrees", "size", "corner"),
    [
        ((1, 0, 0, 1), 0, (64, 48), (0, 0)),
        ((0, 1, -1, 0), 90, (48, 64), (0, -1)),
        ((-1, 0, 0, -1), 180, (64, 48), (-1, -1)),
        ((0, -1, 1, 0), 270, (48, 64), (-1, 0)),
    ],
)
def test_rotated_videos_are_read_upright(tmp_path, matrix, degrees, size, corner):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16] = 200
    path = turned(write(tmp_path / "a.mp4", [picture] * 2), matrix)
    facts = probe_video(path)
    assert ((facts.width, facts.height), facts.rotation) == (size, degrees)
    video = read_video(path, -1)
    assert video.source_size == size and video.frames.shape == (2, size[1], size[0], 3)
    bright = (video.frames[1, ..., 0] > 100).nonzero()
    assert bright.shape[0] == pytest.approx(256, rel=0.1)
    assert video.frames[1, corner[0], corner[1], 0] > 150
    fitted = read_video(path, -1, (32, 32)).frames
    assert fitted.shape == (2, 32, 32, 3)


def test_every_wanted_frame_is_resized_once_and_no_other(clip):
    calls = []

    def shrink(frame):
        calls.append(round((float(frame.mean()) - 20) / GREY))
        return np.ascontiguousarray(frame[::2, ::2])

    video = read_video(clip(20), 5, shrink)
    assert calls[1:] == list(video.indices)  # the first is black and tells the size
    assert video.frames.shape == (10, 24, 32, 3)
    calls.clear()
    video = read_video(clip(5), 25, shrink)
    assert calls[1:] == [0, 1, 2, 3, 4] and len(video.frames) == 12


def test_the_area_keeps_the_aspect_of_the_driving_video(clip):
    path = clip(3, size=(96, 64))
    video = read_video(path, -1, partial(resize_by_area, area=48 * 32))
    assert video.frames.shape == (3, 32, 48, 3) and numbers(video) == [0, 1, 2]
    assert torch.equal(video.frames, read_video(path, -1, (48, 32)).frames)


def test_frames_that_resize_to_different_sizes_are_told(clip):
    sizes = iter([16, 16, 8])
    with pytest.raises(GeometryError, match="8x8"):
        read_video(clip(4), -1, lambda frame: frame[: (n := next(sizes)), :n])


@pytest.mark.parametrize(("offset", "most"), [(0, 3), (5, None), (9, 4), (19, 1), (17, 50)])
def test_a_part_of_the_selection(clip, offset, most):
    path = clip(20)
    whole = read_video(path, -1)
    part = read_video(path, -1, offset=offset, max_frames=most)
    end = 20 if most is None else offset + most
    assert numbers(part) == list(range(20))[offset:end] == list(part.indices)
    assert torch.equal(part.frames, whole.frames[offset:end])


def test_a_part_starts_decoding_at_the_key_frame_before_it(clip):
    asked = []

    class Count(Silent):
        def check_cancelled(self):
            asked.append(1)

    path = clip(40)
    probe_video(path, Count())
    probed = len(asked)
    asked.clear()
    assert numbers(read_video(path, -1, offset=33, max_frames=2, reporter=Count())) == [33, 34]
    assert len(asked) - probed <= 8


@pytest.mark.parametrize(("offset", "most"), [(-1, None), (20, None), (0, 0), (0, -3)])
def test_a_part_without_frames_is_told(clip, offset, most):
    with pytest.raises(InputError, match=f"offset is {offset}"):
        read_video(clip(20), -1, offset=offset, max_frames=most)


def test_pain_22_a_long_video_is_never_in_memory(clip):
    path = clip(40, size=(320, 256))
    tracemalloc.start()
    video = read_video(path, -1, (16, 16))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(video.frames) == 40
    assert peak < 8 * 320 * 256 * 3


def test_much_memory_is_told_before_the_frames_are_read(clip, monkeypatch):
    monkeypatch.setattr(resize, "MUCH_MEMORY", 20 * 64 * 48 * 3 - 1)

    class Order(Log):
        def note(self, text):
            super().note(f"{text} after {len(self.updates)} frames")

    log = Order()
    read_video(clip(20), -1, reporter=log)
    assert len(log.notes) == 1 and "20 frames of 64x48 take 0.0 GB" in log.notes[0]
    assert log.notes[0].endswith("after 0 frames")
    read_video(clip(20), 5, reporter=log)  # what counts is what is kept
    assert len(log.notes) == 1


@pytest.mark.parametrize(("name", "opened"), [("clip.mp4", 1), ("clip.mkv", 1), ("clip.h264", 2)])
def test_a_file_is_opened_once_unless_it_cannot_be_rewound(clip, monkeypatch, name, opened):
    path, calls, real = clip(8, name=name), [], av.open

    def counting(*given, **options):
        calls.append(given)
        return real(*given, **options)

    monkeypatch.setattr(av, "open", counting)
    assert numbers(read_video(path, -1, audio=False)) == list(range(8))
    assert len(calls) == opened


def test_progress_per_selected_frame(clip):
    log = Log()
    read_video(clip(20), 15, reporter=log)
    assert log.phases == [("read video", 30)]
    assert log.updates == list(range(1, 31)) and log.notes == []


def test_cancel_stops_within_a_frame(clip):
    path, calls = clip(20), []

    def keep(frame):
        calls.append(1)
        return frame

    with pytest.raises(Cancelled):
        read_video(path, -1, keep, reporter=Log(stop=3))
    assert len(calls) == 1 + 3


def test_cancel_is_asked_for_frames_that_are_not_selected(clip):
    class Impatient(Silent):
        asked = 0

        def check_cancelled(self):
            self.asked += 1
            if self.asked == 55:
                raise Cancelled

    # 40 times while the frames are counted, once before and 21 times until frame 20 is decoded.
    with pytest.raises(Cancelled):
        read_video(clip(40), 0.5, reporter=Impatient())


# Sound


def ramp(seconds):
    """Sound at 8000 Hz whose value tells its place: 1/8000 s is one step of 1/32768."""
    return np.arange(round(8000 * seconds), dtype=np.int16)


def test_pain_16_sound_has_the_duration_of_the_frames(clip):
    video = read_video(clip(20, name="clip.mov", sound=ramp(3)), 16)
    assert len(video.frames) / video.fps == 2
    assert isinstance(video.audio, Audio) and video.audio.rate == 8000
    assert video.audio.samples.shape == (1, 16000) and video.audio.samples.dtype == torch.float32
    assert torch.equal((video.audio.samples[0] * 32768).round(), torch.arange(16000.0))


def test_sound_of_a_part_begins_with_it(clip):
    path = clip(20, name="clip.mov", sound=ramp(2))
    audio = read_video(path, 5, offset=3, max_frames=4).audio
    steps = (audio.samples[0] * 32768).round()
    assert torch.equal(steps, torch.arange(4800.0, 4800 + 6400))


def test_sound_that_ends_early_is_not_padded(clip):
    assert read_video(clip(20, name="clip.mov", sound=ramp(0.5)), -1).audio.samples.shape[1] == 4000
    path = clip(20, name="late.mov", sound=ramp(0.5))
    assert read_video(path, -1, offset=10).audio is None


def test_sound_that_starts_before_the_picture_is_cut(clip):
    path = clip(10, times=[1 + n / 10 for n in range(10)], name="clip.mkv", sound=ramp(3))
    audio = read_video(path, -1).audio
    assert (audio.samples[0, 0] * 32768).round() == pytest.approx(8000, abs=16)


def test_a_hole_in_the_sound_is_silent_and_shifts_nothing(tmp_path):
    path = tmp_path / "hole.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        voice = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for begin in (0, 12000):
            sound = np.arange(begin, begin + 4000, dtype=np.int16)[None]
            frame = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, begin, Fraction(1, 8000)
            container.mux(voice.encode(frame))
        for _ in range(20):
            picture = av.VideoFrame.from_ndarray(grey_picture(0, 32, 32), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux([*stream.encode(None), *voice.encode(None)])
    steps = (read_video(path, -1).audio.samples[0] * 32768).round()
    expected = torch.arange(16000.0)
    expected[4000:12000] = 0
    assert torch.equal(steps, expected)


def test_sound_that_cannot_be_decoded_is_noted_and_left_out(clip):
    path = clip(5, name="clip.mov", sound=ramp(1))
    path.write_bytes(path.read_bytes().replace(b"sowt", b"zzzz"))
    log = Log()
    video = read_video(path, -1, reporter=log)
    assert numbers(video) == [0, 1, 2, 3, 4] and video.audio is None
    assert len(log.notes) == 1 and "sound" in log.notes[0]


def test_sound_can_be_absent_or_left_out(clip):
    assert read_video(clip(5), -1).audio is None
    path = clip(5, name="clip.mov", sound=ramp(1))
    assert probe_video(path).has_audio
    assert read_video(path, -1, audio=False).audio is None


# Pictures and files that are no video


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "strange %03d.png"])
@pytest.mark.parametrize(("fps", "rate"), [(30, 30), (60, 60), (-1, 30)])
def test_a_picture_is_a_video_of_one_frame(tmp_path, name, fps, rate):
    Image.fromarray(grey_picture(10, 33, 31)).save(tmp_path / name)
    log = Log()
    video = read_video(tmp_path / name, fps, reporter=log)
    assert video.frames.shape == (1, 31, 33, 3) and numbers(video) == [10]
    assert (video.fps, video.indices, video.source_frames) == (rate, (0,), 1)
    assert video.source_size == (33, 31) and video.audio is None
    assert len(log.notes) == 1 and "one frame" in log.notes[0]
    assert probe_video(tmp_path / name).is_still


def test_pictures_of_phones_are_upright(tmp_path):
    picture = grey_picture(0, 64, 32)
    picture[:, :16] = 200
    tags = Image.Exif()
    tags[0x0112] = 6  # turn 90 degrees clockwise for showing
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=tags, quality=95)
    video = read_video(tmp_path / "a.jpg", -1)
    assert video.source_size == (32, 64)
    assert video.frames[0, :12].min() > 150 and video.frames[0, 20:].max() < 60


def test_animated_pictures_are_videos(tmp_path):
    pictures = [Image.fromarray(grey_picture(n, 32, 32)) for n in range(0, 40, 8)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100)
    video = read_video(tmp_path / "a.gif", -1)
    assert numbers(video) == list(range(0, 40, 8)) and video.fps == 10


def test_one_frame_is_enough(clip):
    video = read_video(clip(1), 10)
    assert video.indices == (0,) and numbers(video) == [0]


def test_names_that_look_like_addresses_are_files(clip, monkeypatch):
    path = clip(2, name="concat:a.mp4")
    monkeypatch.chdir(path.parent)
    assert numbers(read_video("concat:a.mp4", -1)) == [0, 1]


def test_missing_files_are_told(tmp_path):
    for path in (tmp_path / "no.mp4", tmp_path, "http://127.0.0.1:9/a.mp4"):
        with pytest.raises(MissingFileError):
            read_video(path, 30)


@pytest.mark.parametrize(
    "content", [b"", b"no video " * 500, b"\0" * 5000, b"\xff\xd8\xff\xe0broken"]
)
def test_files_that_are_no_video_are_told(tmp_path, content):
    path = tmp_path / "odd.mp4"
    path.write_bytes(content)
    for read in (probe_video, partial(read_video, fps=30)):
        with pytest.raises(InputError, match=r"odd\.mp4"):
            read(path)


def test_files_without_a_video_stream_are_told(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(ramp(1)[None], format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match="holds no video"):
        read_video(path, 30)


def test_a_cover_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        voice = container.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
        picture = av.VideoFrame.from_ndarray(grey_picture(0, 16, 16), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode(None)])
        silence = np.zeros((1, 4410), np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="s16p", layout="mono")
        frame.sample_rate = 44100
        container.mux([*voice.encode(frame), *voice.encode(None)])
    with pytest.raises(InputError, match="holds no video"):
        read_video(path, 30)


def test_videos_of_zero_frames_are_told(tmp_path):
    path = write(tmp_path / "empty.mov", [], sound=ramp(1))
    with pytest.raises(InputError, match="holds no"):
        read_video(path, 30)


def test_a_playlist_may_not_name_other_files(clip, tmp_path):
    other = clip(5, name="other.ts")
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\n{other}\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError):
        read_video(path, -1)
    path = tmp_path / "list.ffconcat"
    path.write_text(f"ffconcat version 1.0\nfile {other.name}\n")
    with pytest.raises(InputError):
        read_video(path, -1)


def test_fps_zero_is_told_before_the_file_is_looked_at(tmp_path):
    with pytest.raises(InputError, match="fps is 0"):
        read_video(tmp_path / "no.mp4", 0)


def damaged(path, first, last):
    """Overwrite the packets of some frames."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        spans = [(p.pos, p.size) for p in packets[first : last + 1]]
    data = bytearray(path.read_bytes())
    for at, size in spans:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    return path


def test_damaged_frames_do_not_shift_the_others(clip):
    path = clip(40, name="clip.mov", codec="mjpeg", pixels="yuvj420p")
    log = Log()
    video = read_video(damaged(path, 10, 11), -1, reporter=log)
    found = numbers(video)
    assert len(found) == 40 and found[12:] == list(range(12, 40)) and found[:10] == list(range(10))
    assert found[10] == found[11] == 12
    assert any("2 frames" in text for text in log.notes)


def test_damaged_last_frames_repeat_the_one_before(clip):
    path = clip(40, name="clip.mov", codec="mjpeg", pixels="yuvj420p")
    assert numbers(read_video(damaged(path, 38, 39), -1))[36:] == [36, 37, 37, 37]


def test_mostly_damaged_videos_are_told(clip):
    path = clip(40, name="clip.mov", codec="mjpeg", pixels="yuvj420p")
    with pytest.raises(InputError, match="20 of the 40"):
        read_video(damaged(path, 15, 34), -1)


def test_a_video_that_was_cut_off_gives_what_is_there(clip):
    path = clip(40, name="clip.mkv", codec="ffv1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = numbers(read_video(path, -1))
    assert 10 < len(found) < 40 and found[:-1] == list(range(len(found) - 1))


# Frames in memory


def test_frames_in_memory_are_selected_like_those_of_files(clip):
    frames = torch.stack([torch.from_numpy(grey_picture(n, 64, 48)) for n in range(20)])
    for fps in (10, -1, 5, 16):
        video = select_frames(frames.float() / 255, 10, fps)
        assert torch.equal(video.frames, frames[list(video.indices)])
        read = read_video(clip(20), fps)
        assert (video.indices, video.fps, video.source_fps) == (
            read.indices,
            read.fps,
            read.source_fps,
        )
    assert (video.source_size, video.source_frames, video.audio) == ((64, 48), 20, None)


def test_frames_in_memory_are_resized_cut_and_left_as_they_are():
    frames = torch.rand(20, 48, 64, 4)
    before = frames.clone()
    sound = Audio(torch.arange(16000.0).expand(2, -1) / 32768, 8000)
    log = Log()
    video = select_frames(
        frames, 10, -1, (32, 16), offset=5, max_frames=4, audio=sound, reporter=log
    )
    assert video.frames.shape == (4, 16, 32, 3) and video.indices == (5, 6, 7, 8)
    assert torch.equal(video.audio.samples, sound.samples[:, 4000:7200])
    assert log.updates == [1, 2, 3, 4]
    assert torch.equal(frames, before)


@pytest.mark.parametrize("shape", [(48, 64, 3), (4, 48, 64, 1), (4, 3, 48, 0)])
def test_what_is_no_video_in_memory_is_told(shape):
    with pytest.raises(GeometryError, match="The frames have the shape"):
        select_frames(torch.zeros(shape), 10, -1)


def test_no_frames_in_memory_are_told():
    with pytest.raises(InputError, match="0 frames"):
        select_frames(torch.zeros(0, 8, 8, 3), 10, -1)
