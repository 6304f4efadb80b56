"""Several values from the command line: `--grid`, here and by a server."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from wan_local.wan.cli import main
from wan_local.wan.errors import InputError, ValidationError
from wan_local.wan.grid import combine, describe, draw_seeds, repeats
from wan_local.wan.params import APPS
from wan_local.wan.runs import complete, read_axes

ROOT = Path(__file__).resolve().parents[1]
I2V = APPS["wan2-1-i2v"]
GOOD = {"prompt": "a red ball rolls", "input_image": str(ROOT / "assets" / "sample.png")}


def test_the_last_name_changes_fastest():
    found = combine({"a": [1, 2], "b": "xyz"})
    assert [tuple(chosen.values()) for chosen in found] == [
        (1, "x"),
        (1, "y"),
        (1, "z"),
        (2, "x"),
        (2, "y"),
        (2, "z"),
    ]
    assert (
        describe({"seed": 1, "prompt": "a " * 50}) == "seed 1, prompt " + ("a " * 50)[:37] + "..."
    )


def test_values_are_read_as_the_parameter_is():
    pairs = ["seed=1 to 3", "shift=3,5.5", "cfg_star_switch=true,false", "size=64x64,96x64"]
    found = read_axes(I2V, [*pairs, "prompt=a cat, asleep\na dog"], {})
    assert found["seed"] == [1, 2, 3] and found["shift"] == [3, 5.5]
    assert found["cfg_star_switch"] == [True, False] and found["size"] == ["64x64", "96x64"]
    assert found["prompt"] == ["a cat, asleep", "a dog"]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["seed"], "cannot be used"),
        (["=1"], "cannot be used"),
        (["seed=1", "seed=2"], "given once"),
        (["prompt=a,b"], "given once"),
        (["seed="], "0 values"),
        (["size= , "], "has no values"),
        (["shift=3,5,3"], "lists a value twice"),
        (["seed=1 to 13", "shift=1 to 5"], "65 combinations"),
    ],
)
def test_lists_that_cannot_be_used(pairs, words):
    with pytest.raises(InputError, match=words):
        read_axes(I2V, pairs, {"prompt": "a"})


def test_all_wrong_values_are_told_at_once():
    with pytest.raises(ValidationError) as refused:
        complete(I2V, {"input_image": "a.png"}, {"shift": ["x", 3], "sead": [1, 2]})
    found = [problem.field for problem in refused.value.problems]
    assert sorted(found) == ["prompt", "sead", "shift"] or sorted(found) == [
        "prompt",
        "sead",
        "sead",
        "shift",
    ]


def test_one_seed_is_drawn_for_all_or_for_each_place():
    found = complete(I2V, GOOD, {"shift": [3, 5, 8]})
    assert len({values["seed"] for values in found}) == 1 and found[0]["seed"] >= 0
    seeds = [v["seed"] for v in complete(I2V, GOOD, {"seed": [-1, 7, -1], "shift": [3, 5]})]
    assert seeds[0] == seeds[1] and seeds[2:4] == [7, 7] and seeds[4] == seeds[5] != seeds[0]
    assert not repeats("seed", [-1, -1, 3]) and repeats("seed", [3, 3]) and repeats("a", [-1, -1])
    values = [{"prompt": "no seed"}]
    draw_seeds(values, [{}], 9)
    assert values == [{"prompt": "no seed"}]


@pytest.fixture
def caches(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    (folder / "wan_local").mkdir()
    (folder / "wan_local" / "tiny").symlink_to(tiny, target_is_directory=True)
    return folder


def small(out, *more):
    values = {**GOOD, "size": "96x64", "num_frames": 5, "num_inference_steps": 2}
    pairs = [p for name, value in values.items() for p in ("--input", f"{name}={value}")]
    command = ["run", "wan2-1-i2v", *pairs, "--models", "tiny", "--device", "cpu"]
    return [*command, "--out", str(out), *more]


def frames(path):
    with av.open(str(path)) as video:
        return np.stack([f.to_ndarray(format="rgb24") for f in video.decode(video=0)])


def test_a_grid_writes_a_video_for_each_combination(caches, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    grid = ["--grid", "seed=3,4", "--grid", "shift=3,5"]
    assert main(small(tmp_path / "out.mkv", *grid)) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [f"out-{number}.mkv" for number in (1, 2, 3, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    chosen = ["seed 3, shift 3", "seed 3, shift 5", "seed 4, shift 3", "seed 4, shift 5"]
    for line, name, words in zip(lines, names, chosen, strict=False):
        assert line.startswith(f"{tmp_path / name}: {words}")
    # As the same command without a grid makes it, models warm or not.
    alone = ["--input", "seed=4", "--input", "shift=3"]
    assert main(small(tmp_path / "alone.mkv", *alone)) == 0
    assert (frames(tmp_path / "alone.mkv") == frames(tmp_path / "out-3.mkv")).all()
    assert (frames(tmp_path / "out-3.mkv") != frames(tmp_path / "out-1.mkv")).any()


def test_a_combination_that_fails_stops_no_other(caches, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    missing = f"lora_file={tmp_path / 'none.safetensors'},"
    (tmp_path / "out").mkdir()
    command = small(tmp_path / "out" / "out.mkv", "--grid", f"{missing}{GOOD['input_image']}")
    # Neither is a LoRA: both fail, the second one after the first.
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "none.safetensors" in error and "sample.png" in error
    assert list((tmp_path / "out").iterdir()) == []


def test_a_server_runs_a_grid(caches, tmp_path):
    pytest.importorskip("inferencesh")
    sys.path.insert(0, str(ROOT / "tests" / "service"))
    from serve_process import KEY, ServeProcess

    server = ServeProcess(tmp_path / "data")
    try:
        environment = {**os.environ, "WAN_LOCAL_API_KEY": KEY}
        out = tmp_path / "out"
        out.mkdir()
        command = [sys.executable, "-m", "wan", *small(out / "a.mp4")]
        grid = ["--grid", "seed=3,4", "--server", server.base_url]
        done = subprocess.run(
            [*command, *grid], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in out.iterdir()) == ["a-1.mp4", "a-2.mp4"]
        first, second = done.stdout.splitlines()
        assert first.startswith(f"{out / 'a-1.mp4'}: seed 3; seed 3, task task_")
        assert second.startswith(f"{out / 'a-2.mp4'}: seed 4; seed 4, task task_")
        assert (frames(out / "a-1.mp4") != frames(out / "a-2.mp4")).any()
        wrong = subprocess.run(
            [*command, "--grid", "shift=3,many", "--server", server.base_url],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert wrong.returncode == 2 and "combination 2 of 2" in wrong.stderr
        check_client(server, KEY)
    finally:
        server.stop()


def check_client(server, key):
    """`client.grid` uploads a file once, follows, and gives the items."""
    from wan_local.wan.client import APIError, async_inference, inference

    client = inference(api_key=key, base_url=server.base_url)
    values = {**GOOD, "size": "64x64", "num_frames": 5, "num_inference_steps": 2}
    states = []
    body = {"app": "infsh/wan2-1-i2v", "input": values, "grid": {"seed": [1, 2]}}
    grid = client.grid(body, on_update=states.append)
    assert grid.status_text == "completed" and states[-1] == grid
    assert [item["values"] for item in grid["items"]] == [{"seed": 1}, {"seed": 2}]
    with pytest.raises(APIError, match="has ended"):
        client.cancel_grid(grid.id)
    started = client.grid({**body, "grid": {"seed": [5]}}, wait=False)
    assert started["status"] < 10
    assert list(client.stream_grid(started["id"]))[-1]["status"] == 10

    async def check():
        client = async_inference(api_key=key, base_url=server.base_url)
        states = []
        grid = await client.grid(body, on_update=states.append)
        assert grid.status_text == "completed" and states[-1] == grid
        assert [item["values"] for item in grid["items"]] == [{"seed": 1}, {"seed": 2}]
        with pytest.raises(APIError, match="has ended"):
            await client.cancel_grid(grid.id)
        with pytest.raises(APIError, match="404"):
            await anext(client.stream_grid("grid_of_nobody"))
        started = await client.grid({**body, "grid": {"seed": [6]}}, wait=False)
        assert started["status"] < 10
        assert [state async for state in client.stream_grid(started["id"])][-1]["status"] == 10

    asyncio.run(check())
