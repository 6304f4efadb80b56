"""The benchmarks run, and say what they cannot do. What they measure is judged by nobody here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*command):
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tier_a_writes_tables_and_json_and_tells_what_is_left_out(tmp_path):
    path = tmp_path / "a.json"
    told = run("bench", "--only", "forward", "offload", "--repeats", "1", "--json", str(path))
    found = json.loads(path.read_text())
    assert {"processor", "load", "torch", "date", "rows", "figures", "left_out"} <= set(found)
    moved = {one["name"]: one["value"] for one in found["figures"] if one["id"] == "A5"}
    # Every block once a step where both branches go through it together, else once for each.
    assert moved == {
        "streamed step, joint pass: moved": 1,
        "streamed step, two passes: moved": 2,
    }
    has_forward = (ROOT / "bench" / "forward.py").exists()
    assert ("forward" in told.partition("Left out")[2]) is not has_forward
    assert "load" in told


def test_without_time_rows_are_left_out_by_name():
    told = run("bench", "--only", "pipeline", "--budget", "-1")
    assert "Left out: E image to video" in told and "no time left" in told


@pytest.mark.slow
def test_tier_b_runs_in_miniature(tmp_path):
    path = tmp_path / "b.json"
    run("bench.gpu", "--small", "--json", str(path))
    found = json.loads(path.read_text())
    sections = [name for name in found if name.startswith("B")]
    numbers = [name.split()[0] for name in sections]
    assert sorted(numbers, key=lambda name: int(name[1:])) == [
        f"B{number}" for number in (0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11)
    ]
    assert not [found[name] for name in sections if "failed" in found[name]]


def test_tier_b_is_honest_where_there_is_no_gpu(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert "no GPU" in run("bench.gpu")
