"""The command line as its user meets it: in processes of its own, and in this one for errors."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from wan_local.wan import cli
from wan_local.wan.cli import main, read_inputs
from wan_local.wan.errors import InputError
from wan_local.wan.params import APPS

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "assets" / "sample.png"


@pytest.fixture(scope="module")
def caches(tiny, tmp_path_factory):
    """A cache folder in which the tiny models are already built."""
    folder = tmp_path_factory.mktemp("caches")
    (folder / "wan_local").mkdir()
    (folder / "wan_local" / "tiny").symlink_to(tiny, target_is_directory=True)
    return folder


def arguments(out, models="tiny", **inputs):
    values = {
        "prompt": "a red ball rolls",
        "input_image": SAMPLE,
        "size": "96x64",
        "num_frames": 5,
        "num_inference_steps": 2,
        "seed": 3,
        **inputs,
    }
    pairs = [
        p
        for name, value in values.items()
        if value is not None
        for p in ("--input", f"{name}={value}")
    ]
    return [
        "run",
        "wan2-1-i2v",
        *pairs,
        "--models",
        str(models),
        "--out",
        str(out),
        "--device",
        "cpu",
    ]


def run(caches, *args):
    return subprocess.run(
        [sys.executable, "-m", "wan", *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(caches)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def here(caches, monkeypatch, capsys):
    """Runs a command in this process; gives (exit status, stderr)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))

    def call(*args):
        status = main([str(a) for a in args])
        return status, capsys.readouterr().err

    return call


def test_a_run_writes_a_video_and_says_what_it_is(caches, tmp_path):
    done = run(caches, *arguments(tmp_path / "a.mp4"))
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "a.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 5
    path, facts, tiny_notice = done.stdout.splitlines()
    assert path == str(tmp_path / "a.mp4")
    assert all(f in facts for f in ("96x48", "5 frames", "16 fps", "seed 3", "(0.31 s)"))
    assert "noise by nature" in tiny_notice
    for phase in ("encode prompt", "encode image", "encode frames", "sample", "decode"):
        assert phase in done.stderr


def animate_arguments(out, **inputs):
    values = {
        "driving_video": ROOT / "assets" / "puppet.mp4",
        "reference_image": ROOT / "assets" / "character.png",
        "resolution_width": 96,
        "resolution_height": 64,
        "fps": 5,
        "clip_len": 9,
        "sampling_steps": 2,
        "seed": 3,
        **inputs,
    }
    pairs = [p for name, value in values.items() for p in ("--input", f"{name}={value}")]
    app = ["run", "wan-2-2-animate-v2v", "--models", "tiny"]
    return [*app, *pairs, "--out", str(out), "--device", "cpu"]


@pytest.mark.parametrize("mode", ["animation", "replacement"])
def test_an_animation_keeps_length_rate_and_sound_of_the_driving_video(caches, tmp_path, mode):
    done = run(caches, *animate_arguments(tmp_path / "a.mp4", mode=mode))
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "a.mp4")) as video:
        stream = video.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
        assert len(frames) == 15 and stream.average_rate == 5 and frames[0].shape == (80, 64, 3)
    with av.open(str(tmp_path / "a.mp4")) as video:
        sound = sum(f.samples for f in video.decode(audio=0)) / video.streams.audio[0].rate
    assert abs(sound - 3) < 1 / 5
    assert all(f in done.stdout for f in ("64x80", "15 frames", "5 fps", "seed 3", "(3.00 s)"))
    assert f"{mode}, 64x80, 15 frames in 2 clips of 9" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]
    # From clip to clip the picture changes no more than within one.
    changes = [abs(a.astype(int) - b).mean() for a, b in pairwise(frames)]
    assert changes[8] <= 1.5 * np.median(changes)


def test_where_no_weights_are_named_the_miniature_runs(caches, tmp_path):
    given = [f"input_image={ROOT / 'assets' / 'scene.png'}", "prompt=red circle moves up fast"]
    pairs = [part for pair in given for part in ("--input", pair)]
    done = run(caches, "run", "wan2-1-i2v", *pairs, "--out", tmp_path / "a.mkv")
    assert done.returncode == 0, done.stderr
    _, facts, notice = done.stdout.splitlines()
    assert "64x64, 17 frames at 8 fps" in facts
    assert "miniature" in notice and "no measure of Wan's quality" in notice
    assert "noise" not in notice
    with av.open(str(tmp_path / "a.mkv")) as video:
        frames = [f.to_ndarray(format="rgb24").astype(int) for f in video.decode(video=0)]
    red = [np.argwhere((f[..., 0] > 150) & (f[..., 1] < 110)).mean(0) for f in frames]
    assert red[0][0] - red[-1][0] > 10 and abs(red[0][1] - red[-1][1]) < 5


def test_help_tells_the_miniatures_defaults(here, capsys):
    with pytest.raises(SystemExit):
        main(["run", "wan2-1-i2v", "--help"])
    small = capsys.readouterr().out.partition("with --models mini:")[2]
    assert "size: default 64x64" in small and "num_frames: default 17" in small


def test_two_processes_write_the_same_bytes(caches, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        assert run(caches, *arguments(tmp_path / name)).returncode == 0
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_drawn_seed_is_printed_and_gives_the_video_again(caches, tmp_path):
    first = run(caches, *arguments(tmp_path / "a.mp4", seed=-1))
    seed = first.stdout.split("seed ")[1].split(",")[0]
    assert f"seed {seed} was drawn" in first.stderr
    run(caches, *arguments(tmp_path / "b.mp4", seed=seed))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "h264"), ("a.mkv", "ffv1")])
def test_a_video_tells_its_seed_unless_told_not_to(here, tmp_path, name, codec):
    for more, is_told in (([], True), (["--no-metadata"], False)):
        status, error = here(*arguments(tmp_path / name, seed=5), *more)
        assert status == 0, error
        with av.open(str(tmp_path / name)) as video:
            tags = {key.lower(): value for key, value in video.metadata.items()}
            assert video.streams.video[0].codec.canonical_name == codec
        assert ("wan_local" in tags) == is_told
        if is_told:
            told = json.loads(tags["wan_local"])
            assert told["seed"] == 5 and told["parameters"]["input_image"] == SAMPLE.name


@pytest.mark.parametrize(
    "layout", ["diffusers/wan2.1-i2v", "diffusers/wan2.1-flf2v", "official", "comfyui"]
)
def test_every_layout_of_a_model_folder_runs(here, tiny, tmp_path, layout):
    status, error = here(*arguments(tmp_path / "a.mp4", models=tiny / layout))
    assert status == 0, error
    assert (tmp_path / "a.mp4").stat().st_size > 0


def test_fp8_reaches_the_sampler(here, tmp_path):
    """Here the sampler says that it cannot; `tests/kernels` has what it does where it can."""
    said = "linears: fp8 cannot be used"
    assert said not in here(*arguments(tmp_path / "plain.mp4"))[1]
    assert said in here(*arguments(tmp_path / "fp8.mp4"), "--fp8")[1]
    short = animate_arguments(tmp_path / "dance.mp4", sampling_steps=1, fps=2)
    assert said in here(*short, "--fp8")[1]


def test_help_lists_every_parameter_with_default_and_range(capsys):
    for app in APPS.values():
        with pytest.raises(SystemExit) as end:
            main(["run", app.name, "--help"])
        assert end.value.code == 0
        text = capsys.readouterr().out
        for param in app.params:
            line = next(x for x in text.splitlines() if x.strip().startswith(f"{param.name} ("))
            assert param.range_text in line
            assert param.required == ("required" in line)
            assert param.works != ("NOT YET SUPPORTED" in line)
            if param.default not in (None, ""):
                assert f"default {param.default}" in line


def test_tiny_makes_the_models(tmp_path, capsys):
    assert main(["tiny", str(tmp_path / "models")]) == 0
    assert str(tmp_path / "models") in capsys.readouterr().out
    assert list((tmp_path / "models").rglob("*.safetensors"))


def test_tiny_does_not_overwrite_something_else(tmp_path, here):
    (tmp_path / "mine.txt").write_text("keep")
    status, error = here("tiny", tmp_path)
    assert status == 2 and "not empty" in error
    assert (tmp_path / "mine.txt").read_text() == "keep"


BAD = {
    "empty prompt": ({"prompt": " "}, "prompt"),
    "no prompt": ({"prompt": None}, "prompt"),
    "size without meaning": ({"size": "big"}, "size"),
    "fps 0": ({"fps": 0}, "fps"),
    "steps 0": ({"num_inference_steps": 0}, "num_inference_steps"),
    "shift 0": ({"shift": 0}, "shift"),
    "unknown solver": ({"sample_solver": "euler"}, "sample_solver"),
    "missing image": ({"input_image": "none.png"}, "none.png"),
    "unknown parameter": ({"stepps": 4}, "stepps"),
    "unknown upsampling": ({"temporal_upsampling": "rife3"}, "temporal_upsampling"),
    "unknown enlargement": ({"spatial_upsampling": "bicubic"}, "spatial_upsampling"),
    "area too small": ({"size": "8x8"}, "16"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_error_and_loses_nothing(here, tmp_path, name):
    change, expected = BAD[name]
    out = tmp_path / "out.mp4"
    out.write_bytes(b"an older video")
    status, error = here(*arguments(out, **change))
    assert status == 2 and expected in error and "Traceback" not in error
    assert out.read_bytes() == b"an older video" and len(list(tmp_path.iterdir())) == 1


def test_an_unreadable_image_is_one_clear_error(here, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff not a picture")
    status, error = here(*arguments(tmp_path / "a.mp4", input_image=broken))
    assert status == 2 and "broken.jpg" in error


def test_an_output_that_cannot_be_written_is_known_before_the_work(here, tmp_path):
    status, error = here(*arguments(tmp_path / "none" / "a.mp4"))
    assert status == 2 and "does not exist" in error and "encode" not in error


def test_a_folder_without_a_model_is_one_clear_error(here, tmp_path):
    (tmp_path / "empty").mkdir()
    status, error = here(*arguments(tmp_path / "a.mp4", models=tmp_path / "empty"))
    assert status == 2 and "No Wan model" in error
    status, error = here(*arguments(tmp_path / "a.mp4", models=tmp_path / "nowhere"))
    assert status == 2 and "is not there" in error


def copy_model(tiny, tmp_path):
    import shutil

    return Path(shutil.copytree(tiny / "diffusers" / "wan2.1-i2v", tmp_path / "model"))


def test_a_half_downloaded_file_is_one_clear_error(here, tiny, tmp_path):
    model = copy_model(tiny, tmp_path)
    weights = next((model / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-5000])
    status, error = here(*arguments(tmp_path / "a.mp4", models=model))
    assert status == 2 and weights.name in error and "download" in error.lower()


def test_a_text_to_video_checkpoint_is_one_clear_error(here, tiny, tmp_path):
    import json

    from safetensors.torch import load_file, save_file

    model = copy_model(tiny, tmp_path)
    weights = next((model / "transformer").glob("*.safetensors"))
    tensors = load_file(weights)
    image_only = ("add_k_proj", "add_v_proj", "norm_added_k", "image_embedder")
    tensors = {k: v for k, v in tensors.items() if not any(name in k for name in image_only)}
    tensors["patch_embedding.weight"] = tensors["patch_embedding.weight"][:, :16].contiguous()
    save_file(tensors, weights)
    config = json.loads((model / "transformer" / "config.json").read_text())
    config.update(in_channels=16, image_dim=None, added_kv_proj_dim=None)
    (model / "transformer" / "config.json").write_text(json.dumps(config))
    status, error = here(*arguments(tmp_path / "a.mp4", models=model))
    assert status == 2 and "text-to-video" in error


def test_a_device_that_is_not_there_is_one_clear_error(here, tmp_path):
    command = arguments(tmp_path / "a.mp4")
    command[-1] = "cuda:99"
    status, error = here(*command)
    assert status == 2 and "cuda:99" in error


def test_ctrl_c_ends_cleanly_and_leaves_no_file(caches, tmp_path):
    import signal

    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "wan",
            *arguments(tmp_path / "a.mp4", num_inference_steps=100, num_frames=33),
        ],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(caches), "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A test run in the background ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    seen = b""
    while b"sample" not in seen:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130 and "Stopped" in rest and "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_inputs_are_split_at_the_first_equals_sign():
    assert read_inputs(["prompt=a=b", " size =832x480"]) == {"prompt": "a=b", "size": "832x480"}
    for wrong in (["prompt"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(InputError):
            read_inputs(wrong)


def test_exit_statuses_are_the_documented_ones():
    assert (cli.BAD_INPUT, cli.INTERRUPTED) == (2, 130)
