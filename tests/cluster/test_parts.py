"""Parts of long work on a real cluster: the same result, whoever computes it and whoever dies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parent / "spread_check.py"


@pytest.mark.parametrize(
    "case", ["upsampling", "pose", "order", "full", "errors", "deaths", "cancelling"]
)
def test_parts(nodes, tiny, case):
    command = [sys.executable, str(CHECK), nodes.address, case, str(tiny)]
    paths = (CHECK.parents[2], CHECK.parent)
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
