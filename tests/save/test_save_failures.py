"""Nothing half-written is ever seen, whatever goes wrong; errors say what to do."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import av
import pytest
import torch
from wan_local.wan.errors import GeometryError, InputError, OutputError, UnavailableError
from wan_local.wan.media import formats
from wan_local.wan.media.formats import Encoding, find_format, format_of, offered_formats
from wan_local.wan.media.sound import Audio
from wan_local.wan.progress import Silent
from wan_local.wan.save.video import check_writable, write_video

ROOT = Path(__file__).resolve().parents[2]


def noise(frames, height=64, width=64):
    shape = (frames, height, width, 3)
    seeded = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded)


def count(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.fixture
def older(tmp_path):
    """A file that stands where the new one will be."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older video")
    return path


def assert_untouched(path):
    assert path.read_bytes() == b"an older video" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("size", [(32, 33), (33, 32)])
@pytest.mark.parametrize("name", [f.name for f in formats.FORMATS if f.needs_even_sides])
def test_an_odd_side_is_named(tmp_path, size, name):
    if name not in {f.name for f in offered_formats()}:
        pytest.skip("not in this FFmpeg")
    with pytest.raises(GeometryError, match=f"{size[1]}x{size[0]}") as error:
        write_video(tmp_path / "odd.mp4", [noise(1, *size)], 8, Encoding(find_format(name)))
    assert "32x32" in error.value.fix and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 32, 32, 3)]])
def test_no_frames_are_named(older, batches):
    with pytest.raises(GeometryError, match="no frames"):
        write_video(older, batches, 8)
    assert_untouched(older)


def test_one_frame_is_a_video(tmp_path):
    for form in offered_formats():
        path = tmp_path / f"a{form.suffix}"
        assert write_video(path, [noise(1, 64, 64)], 8, Encoding(form)) == count(path) == 1


def test_frames_of_two_sizes_are_named(older):
    with pytest.raises(GeometryError, match="Frame 3 is 64x32, those before it are 64x64"):
        write_video(older, [noise(3), noise(1, 32, 64)], 8)
    assert_untouched(older)


@pytest.mark.parametrize("fps", [0, -1, 1e-9, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_named(older, fps):
    with pytest.raises(InputError, match="fps is"):
        write_video(older, [noise(3)], fps)
    assert_untouched(older)


def test_what_the_encoder_refuses_is_named(older):
    with pytest.raises(OutputError, match="libx264 refused a video of 17000x2"):
        write_video(older, [torch.zeros(1, 2, 17000, 3)], 8)
    assert_untouched(older)


@pytest.mark.parametrize("problem", [RuntimeError("cancelled"), OSError(5, "from elsewhere")])
@pytest.mark.parametrize("form", formats.FORMATS, ids=lambda f: f.name)
def test_a_failure_in_the_middle_leaves_no_file(older, problem, form):
    if form not in offered_formats():
        pytest.skip("not in this FFmpeg")

    def frames():
        parts = []
        for _ in range(50):  # encoders look ahead, the further the more cores there are
            yield noise(60, 64, 64)
            parts = [p for p in older.parent.iterdir() if p != older]
            if parts:
                break
        assert parts and all(p.name.startswith(".") for p in parts)
        raise problem

    with pytest.raises(type(problem)) as raised:
        write_video(older, frames(), 8, Encoding(form))
    assert raised.value is problem  # of the frames, not of the file
    assert_untouched(older)


def test_cancelling_stops_at_the_next_frame_and_leaves_no_file(older):
    class Stop(BaseException):
        """As ComfyUI's interruption: no Exception."""

    class Cancels(Silent):
        done = 0

        def update(self, done, preview=None):
            self.done = done
            if done == 70:
                raise Stop

    reporter = Cancels()
    with pytest.raises(Stop):
        write_video(older, [noise(200)], 8, reporter=reporter, expected=200)
    assert reporter.done == 70
    assert_untouched(older)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="reads are not counted here")
def test_a_cancelled_file_is_not_finished_first(older):
    """FFmpeg would read all of an MP4 to move it: minutes, for a long one."""

    def reads():
        return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])

    def frames():
        yield noise(150)
        raise KeyboardInterrupt

    lossless = Encoding(find_format("mp4 H.264 lossless"), preset="fast")
    size = write_video(older, [noise(150)], 8, lossless) and older.stat().st_size
    before = reads()
    with pytest.raises(KeyboardInterrupt):
        write_video(older, frames(), 8, lossless)
    assert size > 1_000_000 and reads() - before < size / 4


def test_cancelling_is_asked_for_without_a_phase_too(older):
    class Cancels(Silent):
        def check_cancelled(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(older, [noise(9)], 8, reporter=Cancels())
    assert_untouched(older)


def test_progress_counts_frames(tmp_path):
    class Follows(Silent):
        def __init__(self):
            self.told = []

        def start(self, phase, total):
            self.told.append((phase, total))

        def update(self, done, preview=None):
            self.told.append(done)

    reporter = Follows()
    write_video(tmp_path / "a.mp4", [noise(2), noise(1)], 8, reporter=reporter, expected=3)
    assert reporter.told == [("save video", 3), 1, 2, 3]


def test_output_that_cannot_be_written_is_named_beforehand(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "none" / "out.mp4")
    with pytest.raises(OutputError, match="it is a folder"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match=r"\.mp4, \.webm, \.mkv"):
        check_writable(tmp_path / "film.avi")
    with pytest.raises(OutputError, match="name cannot be used"):
        check_writable(tmp_path / f"{'a' * 300}.mp4")
    assert check_writable(tmp_path / "fine.MP4").name == "mp4 H.264"
    assert list(tmp_path.iterdir()) == []


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / f"{'a' * 251}.mp4"
    check_writable(path)
    write_video(path, [noise(3)], 8)
    assert count(path) == 3


def test_a_folder_that_vanished_is_an_error_of_three_lines(tmp_path):
    with pytest.raises(OutputError) as error:
        write_video(tmp_path / "gone" / "a.mp4", [noise(9)], 8, Encoding(offered_formats()[0]))
    assert len(str(error.value).splitlines()) == 3


@contextmanager
def mounted(folder, options):
    """A file system of its own in memory; only root may."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    can_mount = sys.platform == "linux" and os.geteuid() == 0
    if not can_mount or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_folder_is_named(tmp_path):
    with mounted(tmp_path / "disk", "ro") as folder:
        with pytest.raises(OutputError, match="nothing can be written to"):
            check_writable(folder / "a.mp4")
        with pytest.raises(OutputError, match="Read-only"):
            write_video(folder / "a.mp4", [noise(9)], 8, Encoding(offered_formats()[0]))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(OutputError, match="nothing can be written to"):
        check_writable(folder / "a.mp4")
    with pytest.raises(OutputError, match="Permission denied"):
        write_video(folder / "a.mp4", [noise(9)], 8, Encoding(offered_formats()[0]))


@pytest.mark.parametrize("form", formats.FORMATS, ids=lambda f: f.name)
def test_a_full_disk_loses_only_the_new_file(tmp_path, form):
    if form not in offered_formats():
        pytest.skip("not in this FFmpeg")
    with mounted(tmp_path / "disk", "size=256k") as folder:
        path, few, many = folder / f"a{form.suffix}", noise(2), noise(300)
        write_video(path, [few], 8, Encoding(form))
        before = path.read_bytes()
        with pytest.raises(OutputError, match="No space left") as error:
            write_video(path, [many], 8, Encoding(form))
        assert "Free some space" in error.value.fix
        assert path.read_bytes() == before and list(folder.iterdir()) == [path]


LIMITED = """
import resource, sys, torch
from pathlib import Path
from wan.errors import OutputError
from wan.media.formats import Encoding, find_format
from wan.media.sound import Audio
from wan.save.video import write_video

path, encoding = Path(sys.argv[1]), Encoding(find_format(sys.argv[2]))
seeded = torch.Generator().manual_seed(0)
frames = torch.randint(0, 256, (12, 64, 64, 3), generator=seeded).byte()
sound = Audio(torch.rand(1, 24000, generator=seeded) - 0.5, 16000)
def write():
    tags = {"workflow": "x" * 3000}
    return write_video(path, [frames], 8, encoding, audio=sound, tags=tags)
write()
whole = path.read_bytes()
path.unlink()
for limit in [0, 1, *range(0, len(whole), len(whole) // 20), len(whole) - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write()
    except OutputError as error:
        assert "File too large" in error.what, error
    else:
        raise SystemExit(f"a file of {len(whole)} bytes fitted into {limit}")
    assert list(path.parent.iterdir()) == [], limit
resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole), resource.RLIM_INFINITY))
write()
assert path.stat().st_size == len(whole)
"""


@pytest.mark.skipif(os.name == "nt", reason="sizes of files cannot be limited")
@pytest.mark.parametrize("form", formats.FORMATS, ids=lambda f: f.name)
def test_wherever_the_writing_stops_nothing_is_left(tmp_path, form):
    """The operating system itself refuses to write beyond each of many sizes."""
    if form not in offered_formats():
        pytest.skip("not in this FFmpeg")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / f"a{form.suffix}"), form.name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


LONG = """
import resource, sys, torch
from pathlib import Path
from wan.media.formats import Encoding, find_format
from wan.media.sound import Audio
from wan.save.video import write_video

count, path = int(sys.argv[2]), Path(sys.argv[1])
batch = torch.rand(10, 96, 128, 3, generator=torch.Generator().manual_seed(0)) * 0.1
batches = (batch + 0.00009 * i for i in range(count // 10))
sound = Audio(torch.zeros(1, 2 * 8000), 8000)
encoding = Encoding(find_format("mp4 H.264"), quality="low", preset="fast")
assert write_video(path, batches, 30, encoding, audio=sound) == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise")
def test_ten_thousand_frames_take_no_more_memory_than_a_thousand(tmp_path):
    def peak(frames):
        command = [sys.executable, "-c", LONG, str(tmp_path / "a.mp4"), str(frames)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert count(tmp_path / "a.mp4") == frames
        return float(done.stdout)

    # The pixels of the others alone are 316 MiB. A few bytes a frame belong to the file's index.
    assert peak(10_000) - peak(1000) < 8


def test_formats_are_offered_and_refused_by_what_ffmpeg_has(monkeypatch):
    assert not formats._has("mp4", "no such encoder") and not formats._has("no such file", "aac")
    monkeypatch.setattr(formats, "_has", lambda container, *names: "libx264" not in names)
    offered_formats.cache_clear()
    try:
        names = [f.name for f in offered_formats()]
        assert "mp4 H.264" not in names and len(names) == len(formats.FORMATS) - 1
        with pytest.raises(UnavailableError, match="cannot be written here") as error:
            find_format("mp4 H.264")
        assert "mp4 H.264" in error.value.what and "libx264" in error.value.why
        assert all(name in error.value.fix for name in names)
        assert format_of(Path("a.mp4")).name == "mp4 H.264 lossless"
    finally:
        offered_formats.cache_clear()


def test_unknown_words_are_named():
    usual = offered_formats()[0]
    with pytest.raises(InputError, match="'avi' is unknown"):
        find_format("avi")
    with pytest.raises(InputError, match="quality is 'superb'"):
        Encoding(usual, quality="superb")
    with pytest.raises(InputError, match="preset is 'veryslow'"):
        Encoding(usual, preset="veryslow")
    with pytest.raises(InputError, match="crf is 52"):
        Encoding(find_format("mp4 H.264"), crf=52)
    with pytest.raises(InputError, match="loses nothing"):
        Encoding(find_format("mkv FFV1 lossless"), crf=10)


def test_sound_with_too_many_channels_costs_nothing(older):
    with pytest.raises(InputError, match="channels"):
        write_video(older, [noise(9)], 8, audio=Audio(torch.zeros(3, 99), 8000))
    assert_untouched(older)
