"""A group of real processes on this machine, that tests ask for figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

from wan_local.wan.parallel.group import open_store

SCRIPT = Path(__file__).parent / "member.py"


class Members:
    """Ranks that wait for cases, see `member.py`."""

    def __init__(self, ranks, tiny):
        self.store = open_store(ranks)
        self.processes = [
            subprocess.Popen(
                [sys.executable, SCRIPT, str(rank), str(ranks), str(self.store.port), str(tiny)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(ranks)
        ]

    def ask(self, name, **values):
        """What each rank answers."""
        for process in self.processes:
            process.stdin.write(json.dumps([name, values]) + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in self.processes]

    def close(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait(30)
