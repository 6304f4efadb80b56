"""`./run.sh` as a newcomer calls it, in a copy of the checkout whose environment is set up."""

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("wan", "assets", "scripts", "run.sh", "requirements.txt", "requirements-standalone.txt")


@pytest.fixture
def checkout(tmp_path):
    """The files it needs, and this Python as the environment that it made earlier."""
    for name in NEEDED:
        (tmp_path / name).symlink_to(ROOT / name)
    # A link would be followed to where it points: the script goes to its own folder.
    (tmp_path / "run.sh").unlink()
    (tmp_path / "run.sh").write_bytes((ROOT / "run.sh").read_bytes())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    texts = [(ROOT / name).read_text().rstrip("\n") for name in NEEDED if name.endswith(".txt")]
    (tmp_path / ".venv" / "installed").write_text("torch>=2.4 " + "\n".join(texts))
    return tmp_path


def run(checkout, *arguments):
    clean = {k: v for k, v in os.environ.items() if k not in ("TORCH", "PYTHONPATH")}
    command = ["bash", "run.sh", *arguments]
    answer = subprocess.run(command, cwd=checkout, env=clean, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert "Installing" not in answer.stderr  # it reused what is there
    return answer.stdout


@pytest.mark.slow
def test_it_makes_three_videos_and_says_where(checkout):
    said = run(checkout)
    for name, least in (("image_to_video", 17), ("animation", 15), ("replacement", 15)):
        video = checkout / "output" / f"{name}.mp4"
        assert f"output/{name}.mp4" in said
        with av.open(str(video)) as file:
            assert len(list(file.decode(video=0))) >= least


def test_arguments_go_to_the_command_line(checkout):
    assert "wan2-1-i2v" in run(checkout, "run", "--help")


def test_the_shipped_script_can_be_executed():
    assert os.access(ROOT / "run.sh", os.X_OK) and os.access(ROOT / "test.sh", os.X_OK)
