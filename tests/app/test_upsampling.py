"""temporal_upsampling and spatial_upsampling of wan2-1-i2v, and what is left when they fail."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from rife_weights import fill, shapes, write
from wan_local.wan.app import Surroundings, run_i2v
from wan_local.wan.app.upsampling import SPATIAL, TEMPORAL, Upsampling, save_video
from wan_local.wan.errors import (
    Cancelled,
    MissingFileError,
    OutOfVramError,
    OutputError,
    UpsamplingError,
)
from wan_local.wan.params import I2V_APP, validate
from wan_local.wan.progress import Silent
from wan_local.wan.residency import DevicePlacement
from wan_local.wan.save.video import write_video
from wan_local.wan.terminal import rife_folders
from wan_local.wan.tiny import tiny_rife_folder
from wan_local.wan.upsample.lanczos import resize
from wan_local.wan.upsample.rife.interpolate import interpolate
from wan_local.wan.upsample.rife.load import find_rife, load_rife

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.png"
PLAIN = {
    "prompt": "a red ball rolls",
    "input_image": str(SAMPLE),
    "size": "64x48",
    "num_frames": 5,
    "num_inference_steps": 2,
    "seed": 3,
    "tea_cache": 0,
}
NONE = Upsampling(None, 1, 1.0)


class Watch(Silent):
    def __init__(self, fail_in=None, error=None):
        self.notes, self.phases = [], []
        self.fail_in, self.error = fail_in, error

    def start(self, phase, total):
        self.phases.append((phase, total))

    def update(self, done, preview=None):
        if self.phases[-1][0] == self.fail_in and done == 2:
            raise self.error

    def note(self, text):
        self.notes.append(text)


def read(path):
    with av.open(str(path)) as video:
        frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
        return np.stack(frames).astype(int), float(video.streams.video[0].average_rate)


@pytest.fixture
def run(i2v, tiny, tmp_path):
    """Runs the app; gives (frames, fps, result, reporter)."""

    def call(reporter=None, **changes):
        reporter, out = reporter or Watch(), tmp_path / "out.mp4"
        values = validate(I2V_APP, {**PLAIN, **changes})
        folders = [tiny_rife_folder(tiny)]
        result = run_i2v(values, i2v, out, reporter, Surroundings(rife_folders=folders))
        return *read(out), result, reporter

    return call


@pytest.fixture(scope="module")
def rife(tiny):
    return load_rife(find_rife([tiny_rife_folder(tiny)]), DevicePlacement("cpu"))


def gradient(count, height=48, width=64):
    """[count, height, width, 3] uint8 of a bar that moves slowly."""
    x = torch.arange(width).view(1, 1, -1)
    shift = torch.arange(count).view(-1, 1, 1)
    bar = (128 + 100 * torch.sin((x + 2 * shift) / 9)).expand(count, height, width)
    return torch.stack((bar, bar.flip(2), bar / 2), -1).to(torch.uint8)


def save(out, video, upsampling, reporter=None, fps=8):
    """Upsamples and writes a video as if it had been decoded."""
    shape = video.shape[:3]

    def write(batches, rate):
        return write_video(out, batches, rate)

    return save_video(out, as_decoded(video), shape, fps, upsampling, write, reporter or Silent())


def as_decoded(video):
    """A video as the decoder yields it."""
    for first in (0, *range(1, len(video), 4)):
        yield first, video[first : first + 4 if first else 1].float() / 255


def test_the_tables_hold_the_choices_of_the_page():
    assert tuple(TEMPORAL) == I2V_APP["temporal_upsampling"].options
    assert tuple(SPATIAL) == I2V_APP["spatial_upsampling"].options


@pytest.mark.parametrize(("value", "factor"), [("rife2", 2), ("rife4", 4)])
def test_temporal_upsampling_multiplies_frames_and_rate(run, value, factor):
    plain, rate, _, _ = run()
    frames, faster, result, watch = run(temporal_upsampling=value)
    assert rate == 16 and faster == 16 * factor
    assert len(frames) == (len(plain) - 1) * factor + 1 == result.num_frames
    assert result.fps == faster and (result.width, result.height) == (64, 32)
    # Another rate is coded with other losses; another frame would be 20 and more away.
    assert abs(frames[::factor] - plain).mean() < 8
    assert "temporal_upsampling: rife_tiny.safetensors (RIFE 4 of an unusual size)" in watch.notes
    assert watch.phases[-1] == ("interpolate", 4)


@pytest.mark.parametrize(("value", "size"), [("lanczos1.5", (96, 48)), ("lanczos2", (128, 64))])
def test_spatial_upsampling_multiplies_the_size(run, value, size):
    frames, rate, result, watch = run(spatial_upsampling=value)
    assert frames.shape == (5, size[1], size[0], 3) and rate == 16
    assert (result.width, result.height, result.num_frames) == (*size, 5)
    assert watch.phases[-1] == ("resize", 5)


def test_frames_come_before_pixels(run):
    frames, rate, result, watch = run(temporal_upsampling="rife2", spatial_upsampling="lanczos2")
    assert frames.shape == (9, 64, 128, 3) and rate == 32 and result.seconds == 9 / 32
    assert watch.phases[-2:] == [("interpolate", 4), ("resize", 9)]


def test_what_is_written_is_what_the_upsamplers_make(rife, tmp_path):
    video = gradient(9)
    out = tmp_path / "a.mp4"
    upsampling = Upsampling(rife, 2, 2.0)
    assert save(out, video, upsampling) == 17
    expected = resize(interpolate(video, rife, 2, Silent()), 2, Silent()).int().numpy()
    frames, rate = read(out)
    assert rate == 16 and frames.shape == expected.shape
    # H.264 at this quality moves smooth pictures by a few levels of 255.
    assert abs(frames - expected).mean() < 3
    middle = abs(frames[1] - expected[0]).mean()
    assert middle > 3  # between two frames, not one of them again


def test_without_upsampling_each_batch_is_written_as_it_comes(tmp_path):
    events = []

    def decoded():
        for first, frames in as_decoded(gradient(9)):
            events.append(first)
            yield first, frames

    def write(batches, fps):
        return sum(events.append("written") or len(batch) for batch in batches)

    count = save_video(tmp_path, decoded(), (9, 48, 64), 8, NONE, write, Silent())
    assert events == [0, "written", 1, "written", 5, "written"] and count == 9
    assert not NONE.is_wanted


def test_nan_pixels_are_black_and_named(tmp_path):
    video, watch = torch.full((5, 8, 8, 3), 0.5), Watch()
    video[2, 3, 3] = float("nan")
    written = []

    def write(batches, fps):
        written.extend(batches)
        return 5

    doubled = Upsampling(None, 1, 1.0001)
    save_video(tmp_path, [(0, video)], (5, 8, 8), 8, doubled, write, watch)
    frames = torch.cat(written)
    assert frames.dtype == torch.uint8 and frames[2, 3, 3].tolist() == [0, 0, 0]
    assert (frames[0] == 128).all() and "frame 2 held" in watch.notes[0]


def test_missing_weights_are_named_before_anything_runs(i2v, tmp_path):
    class Refuses(Silent):
        def start(self, phase, total):
            raise AssertionError(f"{phase} began")

    values = validate(I2V_APP, {**PLAIN, "temporal_upsampling": "rife2"})
    folder = tmp_path / "rife"
    folder.mkdir()
    write(folder / "rife46.pth", {"block0.conv0.0.0.weight": torch.zeros(96, 7, 3, 3)})
    (folder / "rife47.pth").write_bytes(b"404: Not Found")
    with pytest.raises(MissingFileError, match="No RIFE weights") as error:
        run_i2v(values, i2v, tmp_path / "out.mp4", Refuses(), Surroundings(rife_folders=[folder]))
    assert "'rife46.pth' is RIFE 4.0 to 4.6" in error.value.what
    assert "'rife47.pth' (14 bytes) cannot be read" in error.value.what
    assert "rife_v4.26.safetensors" in error.value.fix
    assert not (tmp_path / "out.mp4").exists()


def test_without_temporal_upsampling_no_weights_are_looked_for(i2v, tmp_path):
    values = validate(I2V_APP, {**PLAIN, "spatial_upsampling": "lanczos2"})
    result = run_i2v(values, i2v, tmp_path / "out.mp4", Silent(), Surroundings())
    assert result.width == 128


@pytest.mark.parametrize("phase", ["interpolate", "resize"])
def test_if_upsampling_fails_the_video_is_saved_without_it(run, tmp_path, phase):
    plain, _, _, _ = run()
    (tmp_path / "out.mp4").unlink()
    watch = Watch(phase, torch.OutOfMemoryError("CUDA out of memory.\nMore lines"))
    with pytest.raises(UpsamplingError, match=r"Upsampling failed: .*CUDA out of memory") as error:
        run(watch, temporal_upsampling="rife2", spatial_upsampling="lanczos2")
    out = tmp_path / "out.mp4"
    assert error.value.saved == out and f"'{out}' holds the video" in error.value.why
    assert "5 frames at 16 fps" in error.value.why
    # Interpolation names what helps; of a resize, which runs on the CPU, it is what it was.
    assert isinstance(error.value.__cause__, OutOfVramError | torch.OutOfMemoryError)
    frames, rate = read(out)
    assert rate == 16 and (frames == plain).all()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_the_fix_of_a_known_error_is_passed_on(rife, tmp_path):
    broken = Upsampling(rife, 9, 1.0)  # no such factor
    with pytest.raises(UpsamplingError, match="The factor of RIFE is 9") as error:
        save(tmp_path / "a.mp4", gradient(5), broken)
    assert "2, 3, 4" in error.value.fix and len(read(tmp_path / "a.mp4")[0]) == 5


@pytest.mark.parametrize("stop", [Cancelled, KeyboardInterrupt])
@pytest.mark.parametrize("phase", ["interpolate", "resize"])
def test_cancelling_while_upsampling_leaves_no_file(run, tmp_path, phase, stop):
    with pytest.raises(stop):
        run(Watch(phase, stop()), temporal_upsampling="rife2", spatial_upsampling="lanczos2")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_for_both_is_said_once(rife, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()

    class Remove(Silent):
        def start(self, phase, total):
            gone.rmdir()

    upsampling = Upsampling(None, 1, 2.0)
    with pytest.raises(OutputError):
        save(gone / "a.mp4", gradient(5), upsampling, Remove())


def test_weights_are_found_around_the_models(tiny, tmp_path):
    models = tmp_path / "ComfyUI" / "models"
    diffusers = models / "diffusers" / "Wan2.1-I2V"
    pack = tmp_path / "ComfyUI/custom_nodes/comfyui-frame-interpolation/ckpts/rife"
    own, other = models / "frame_interpolation", diffusers / "rife"
    for folder in (diffusers, pack, own, other):
        folder.mkdir(parents=True)
    assert rife_folders(str(diffusers)) == [other, own, pack]
    assert rife_folders(str(models)) == [own, pack]
    assert rife_folders(str(tmp_path / "ComfyUI")) == [own, pack]
    write(pack / "rife47.pth", fill(shapes("small"), 0.6))
    assert find_rife(rife_folders(str(models))) == pack / "rife47.pth"


def test_where_no_folder_exists_the_error_says_which_would_do(tmp_path):
    with pytest.raises(MissingFileError, match="frame_interpolation"):
        find_rife(rife_folders(str(tmp_path)))


def test_from_the_command_line(tiny, tmp_path, monkeypatch, capsys):
    from wan_local.wan.cli import main

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    (tmp_path / "caches" / "wan_local").mkdir(parents=True)
    (tmp_path / "caches" / "wan_local" / "tiny").symlink_to(tiny, target_is_directory=True)
    pairs = {**PLAIN, "temporal_upsampling": "rife2", "spatial_upsampling": "lanczos1.5"}
    inputs = [p for name, value in pairs.items() for p in ("--input", f"{name}={value}")]
    out = tmp_path / "a.mp4"
    for models in ("tiny", str(tiny / "comfyui")):
        run = ["run", "wan2-1-i2v", *inputs, "--models", models, "--device", "cpu"]
        assert main([*run, "--out", str(out)]) == 0
        assert "96x48, 9 frames at 32 fps" in capsys.readouterr().out
        frames, rate = read(out)
        assert frames.shape == (9, 48, 96, 3) and rate == 32
        out.unlink()
    run = ["run", "wan2-1-i2v", *inputs, "--models", str(tiny / "diffusers/wan2.1-i2v")]
    assert main([*run, "--out", str(out), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "No RIFE weights are in" in error and "encode" not in error and not out.exists()
