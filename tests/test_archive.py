"""What ComfyUI's registry installs: the files that `.comfyignore` leaves, and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT / "tests" / "host" / "standin"
MOST_BYTES = 30_000_000
LIST_NODES = """
import asyncio, importlib.util, sys
from pathlib import Path
root = Path(sys.argv[1])
place = [str(root)]
spec = importlib.util.spec_from_file_location("pack", root / "__init__.py",
                                              submodule_search_locations=place)
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
spec.loader.exec_module(module)
extension = asyncio.run(module.comfy_entrypoint())
print(*[node.__name__ for node in asyncio.run(extension.get_node_list())])
"""


def listed(*arguments):
    command = ["git", "ls-files", "--cached", *arguments]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip("this is no git checkout")
    return set(answer.stdout.splitlines())


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The pack as the registry packs it."""
    left_out = listed("--ignored", "--exclude-from=.comfyignore")
    folder = tmp_path_factory.mktemp("archive")
    for name in sorted(listed() - left_out):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def run(*arguments, cwd, **env):
    command = [sys.executable, *arguments]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | env
    answer = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout


def test_what_only_developers_need_is_left_out(archive):
    assert not any((archive / name).exists() for name in ("tests", "bench", "scripts", "training"))
    assert sum(path.stat().st_size for path in archive.rglob("*")) < MOST_BYTES


def test_every_node_loads_from_it(archive, tmp_path):
    from wan_local.nodes import NODES

    found = run("-c", LIST_NODES, str(archive), cwd=tmp_path, PYTHONPATH=str(STAND_IN))
    assert found.split() == [node.__name__ for node in NODES]


def test_the_miniature_makes_a_video_from_it(archive, tmp_path):
    given = ["prompt=red circle moves up slowly", f"input_image={archive}/assets/scene.png"]
    given += ["num_inference_steps=2", "num_frames=9"]
    inputs = [part for text in given for part in ("--input", text)]
    video = tmp_path / "up.mp4"
    run("-m", "wan", "run", "wan2-1-i2v", *inputs, "--out", str(video), cwd=archive)
    assert video.stat().st_size > 500
