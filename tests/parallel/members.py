"""A group of real processes on this machine, that tests ask for figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "member.py"


class Members:
    """Ranks that wait for cases, see `member.py`."""

    def __init__(self, ranks, tiny):
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(ranks), str(tiny)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, name, **values):
        """What each rank answers."""
        self.process.stdin.write(json.dumps([name, values]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
