"""Memory with ComfyUI as the host: sizes it is told, evictions, and the baseline after everything."""

import subprocess
import sys
from pathlib import Path

import pytest
from host import STANDIN
from host.hosts import find_checkouts

ROOT = Path(__file__).resolve().parents[2]
HOSTS = [
    pytest.param(STANDIN, id="stand-in"),
    *(pytest.param(p, id=p.name, marks=pytest.mark.comfy) for p in find_checkouts()),
]


@pytest.mark.parametrize("place", HOSTS)
def test_the_host_owns_the_memory_and_gets_all_of_it_back(place, tiny):
    python = place / ".venv" / "bin" / "python"
    script = Path(__file__).with_name("check_memory_on_host.py")
    command = [python if python.exists() else sys.executable, script, place, ROOT, tiny]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
